"""silu_and_mul as a .cu file beside this one, built by torch.utils.cpp_extension.load."""

from pathlib import Path

import torch
from torch import nn
from torch.utils.cpp_extension import load

HERE = Path(__file__).parent
extension = load(name="example_silu_and_mul_file", sources=[str(HERE / "binding.cpp"), str(HERE / "silu.cu")],
                 with_cuda=True)


class SiluAndMul(nn.Module):
    """silu(x[..., :D]) * x[..., D:], in float32 inside. x: [..., 2 * D] bfloat16 -> [..., D], in new memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate the rows."""
        return extension.silu_and_mul(x.contiguous())
