"""GeGLU's activation: GELU of the first half times the second half."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

APPROXIMATIONS = ("none", "tanh")


@triton.jit
def gelu_and_mul_kernel(
    x_ptr, out_ptr, x_row, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TANH: tl.constexpr,
):
    """out[t, d] = gelu(x[t, d]) * x[t, WIDTH + d] for BLOCK columns of one row, in float32 inside.

    With TANH, (1 + tanh(u)) / 2 is computed as sigmoid(2 u), which is the same function, with
    u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    blocks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    row = (tl.program_id(0) // blocks).to(tl.int64)
    col = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    mask = col < WIDTH
    gate = tl.load(x_ptr + row * x_row + col, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + row * x_row + WIDTH + col, mask=mask, other=0.0).to(tl.float32)
    if TANH:
        u = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        y = gate / (1.0 + tl.exp(-2.0 * u)) * up
    else:
        y = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)) * up
    tl.store(out_ptr + row * WIDTH + col, y.to(out_ptr.dtype.element_ty), mask=mask)


def launch_shape(width: int) -> tuple[int, int]:
    """(columns a program, warps a program).

    As measured for silu_and_mul on an H200; a copy of as many bytes takes as long at 32, 512 and 4096 tokens.
    """
    block = min(1024, max(16, triton.next_power_of_2(width)))
    return block, max(1, block // 256)


class GeluAndMul(Op):
    """y = gelu(x[..., :D]) * x[..., D:] (GeGLU, Shazeer, 2020; GELU, Hendrycks and Gimpel, 2016).

    approximate: `none` (error function) or `tanh`. x: [..., 2 * D] -> [..., D], new memory. Mirrors vLLM's GeluAndMul.
    """

    provider = "triton"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in APPROXIMATIONS:
            raise ValueError(f"approximate: {approximate!r} is not one of {', '.join(APPROXIMATIONS)}")
        self.approximate = approximate

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """Plain PyTorch, in float32 or better, rounded once."""
        gate, up = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
        return (F.gelu(gate, approximate=self.approximate) * up).to(x.dtype)

    def forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        """One Triton kernel; rows may be strided."""
        width = x.shape[-1] // 2
        rows = x.reshape(-1, 2 * width)
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
        block, num_warps = launch_shape(width)
        grid = (rows.shape[0] * triton.cdiv(width, block),)
        gelu_and_mul_kernel[grid](
            rows, out, rows.stride(0), WIDTH=width, BLOCK=block, TANH=self.approximate == "tanh", num_warps=num_warps
        )
        return out

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads x, writes y; nine operations an element, with the exponential or error function counted as one."""
        return Work(bytes=tensor_bytes(inputs["x"], *outputs), flops=9 * outputs[0].numel())
