"""GELU without a gate."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

APPROXIMATIONS = ("none", "tanh")
BLOCK = 1024
"""Elements of a program: 16 bytes a thread and two of them, as gelu_and_mul's."""


@triton.jit
def gelu_kernel(x_ptr, out_ptr, total, BLOCK: tl.constexpr, TANH: tl.constexpr):
    """out = gelu(x) for BLOCK elements, in float32 inside.

    With TANH, (1 + tanh(u)) / 2 is computed as sigmoid(2 u), which is the same function, with
    u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < total
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if TANH:
        u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        y = x / (1.0 + tl.exp(-2.0 * u))
    else:
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=mask)


class GELU(Op):
    """y = gelu(x) (Hendrycks and Gimpel, 2016).

    approximate: `none` (error function) or `tanh`. x: any shape -> the same shape, new memory. Mirrors torch.nn.GELU,
    which vLLM's get_act_fn returns for `gelu` and `gelu_pytorch_tanh`.
    """

    provider = "triton"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in APPROXIMATIONS:
            raise ValueError(f"approximate: {approximate!r} is not one of {', '.join(APPROXIMATIONS)}")
        self.approximate = approximate

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """Plain PyTorch, in float32 or better, rounded once."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.gelu(wide, approximate=self.approximate).to(x.dtype)

    def forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        """One Triton kernel over the elements as they lie."""
        x = x.contiguous()
        out = torch.empty_like(x)
        gelu_kernel[(triton.cdiv(x.numel(), BLOCK),)](
            x, out, x.numel(), BLOCK=BLOCK, TANH=self.approximate == "tanh", num_warps=4
        )
        return out

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads x, writes y; eight operations an element, with the exponential or error function counted as one."""
        return Work(bytes=tensor_bytes(inputs["x"], *outputs), flops=8 * outputs[0].numel())
