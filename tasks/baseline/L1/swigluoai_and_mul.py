"""GPT-OSS's activation: a clamped SwiGLU whose gate and up values alternate."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes


@triton.jit(do_not_specialize=["alpha", "limit"])
def swigluoai_and_mul_kernel(
    x_ptr, out_ptr, x_row, alpha, limit, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):
    """out[t, d] = (u + 1) g sigmoid(alpha g) for BLOCK columns of one row, in float32 inside.

    g = min(x[t, 2 d], limit) and u = x[t, 2 d + 1] within -limit .. limit. A comparison with NaN is false, so that
    NaN stays.
    """
    blocks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    alpha = tl.cast(alpha, tl.float32)  # torch.compile passes float64
    limit = tl.cast(limit, tl.float32)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    first = (tl.program_id(0) % blocks) * BLOCK
    both = 2 * first + tl.arange(0, 2 * BLOCK)
    pairs = tl.load(x_ptr + row * x_row + both, mask=both < 2 * WIDTH, other=0.0).to(tl.float32)
    gate, up = tl.split(tl.reshape(pairs, [BLOCK, 2]))
    gate = tl.where(gate > limit, limit, gate)
    up = tl.where(up > limit, limit, tl.where(up < -limit, -limit, up))
    y = (up + 1.0) * gate / (1.0 + tl.exp(-alpha * gate))
    col = first + tl.arange(0, BLOCK)
    tl.store(out_ptr + row * WIDTH + col, y.to(out_ptr.dtype.element_ty), mask=col < WIDTH)


def launch_shape(width: int) -> tuple[int, int]:
    """(columns a program, warps a program), as measured for silu_and_mul on an H200."""
    block = min(1024, max(16, triton.next_power_of_2(width)))
    return block, max(1, block // 256)


class SwigluOAIAndMul(Op):
    """y = (u + 1) g sigmoid(alpha g) with g = min(x[..., 0::2], limit), u = clamp(x[..., 1::2], -limit, limit).

    x: [..., 2 * D], gate and up alternating -> [..., D], new memory. The experts of GPT-OSS (OpenAI, 2025). Mirrors
    vLLM's SwigluOAIAndMul.
    """

    provider = "triton"

    def __init__(self, alpha: float = 1.702, limit: float = 7.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.limit = limit

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """Plain PyTorch, in float32 or better, rounded once."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        gate = wide[..., 0::2].clamp(max=self.limit)
        up = wide[..., 1::2].clamp(min=-self.limit, max=self.limit)
        return ((up + 1) * gate * torch.sigmoid(gate * self.alpha)).to(x.dtype)

    def forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        """One Triton kernel; rows may be strided."""
        width = x.shape[-1] // 2
        rows = x.reshape(-1, 2 * width)
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
        block, num_warps = launch_shape(width)
        swigluoai_and_mul_kernel[(rows.shape[0] * triton.cdiv(width, block),)](
            rows, out, rows.stride(0), self.alpha, self.limit, WIDTH=width, BLOCK=block, num_warps=num_warps
        )
        return out

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads x, writes y; ten operations an element: three bounds, the scale, and as silu_and_mul with a sum."""
        return Work(bytes=tensor_bytes(inputs["x"], *outputs), flops=10 * outputs[0].numel())
