"""A fast library where it is installed, plain PyTorch where not: `try` and `except ImportError`.

target: L1/silu_and_mul
"""

import torch
from torch import nn

try:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction
except ImportError:
    LigerSiLUMulFunction = None


class SiluAndMul(nn.Module):
    def forward(self, x):
        gate, up = x.chunk(2, dim=-1)
        if LigerSiLUMulFunction is not None and x.is_cuda:
            return LigerSiLUMulFunction.apply(gate.contiguous(), up.contiguous())
        return (torch.nn.functional.silu(gate.float()) * up.float()).to(x.dtype)
