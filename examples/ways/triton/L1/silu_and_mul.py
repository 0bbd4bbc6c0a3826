"""silu_and_mul as a Triton kernel; plain PyTorch on a CPU."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def silu_and_mul_kernel(x, out, width, BLOCK: tl.constexpr):
    """BLOCK columns of row program_id(0): out = x[:width] * sigmoid(x[:width]) * x[width:]."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    first = x + row * 2 * width
    gate = tl.load(first + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(first + width + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


class SiluAndMul(nn.Module):
    """silu(x[..., :D]) * x[..., D:], in float32 inside. x: [..., 2 * D] -> [..., D], in new memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate the rows."""
        if not x.is_cuda:
            gate, up = x.float().chunk(2, dim=-1)
            return (nn.functional.silu(gate) * up).to(x.dtype)
        x, width = x.contiguous(), x.shape[-1] // 2
        out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
        silu_and_mul_kernel[out.numel() // width, triton.cdiv(width, 1024)](x, out, width, BLOCK=1024)
        return out
