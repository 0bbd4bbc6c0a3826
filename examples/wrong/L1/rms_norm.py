"""A wrong candidate for rms_norm, for documentation and tests: the last column of a row is never scaled by its weight.

The mask of the weight's load stops one column early and fills in one. With the weights that a fresh module has, all
ones, the result is right; with any other weight the last element of each row is off by a factor, one in 4096 elements.
"""

import torch
from torch import nn

from fastkernels.runtime.jit import tl, triton


@triton.jit
def kernel(x, residual, weight, out, total, eps, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr):
    """One row of HIDDEN elements a program; the load of the weight holds the mistake."""
    start = tl.program_id(0).to(tl.int64) * HIDDEN
    col = tl.arange(0, BLOCK)
    inside = col < HIDDEN
    row = tl.load(x + start + col, mask=inside, other=0.0).to(tl.float32)
    gain = tl.load(weight + col, mask=col < HIDDEN - 1, other=1.0).to(tl.float32)
    if ADD:
        row += tl.load(residual + start + col, mask=inside, other=0.0).to(tl.float32)
        tl.store(total + start + col, row.to(total.dtype.element_ty), mask=inside)
    row *= tl.rsqrt(tl.sum(row * row) / HIDDEN + eps)
    tl.store(out + start + col, (row * gain).to(out.dtype.element_ty), mask=inside)


class RMSNorm(nn.Module):
    """rms_norm with the last column wrong, on CUDA and on the CPU."""

    def __init__(self, hidden_size: int, eps: float = 1e-6, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype or torch.get_default_dtype()))

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Normalise the rows, all columns but the last one rightly."""
        out, total = (self.on_cuda if x.is_cuda else self.on_cpu)(x, residual)
        return out if residual is None else (out, total)

    def on_cuda(self, x: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """A program a row."""
        hidden = x.shape[-1]
        rows = x.contiguous()
        added = rows if residual is None else residual.contiguous()
        out, total = torch.empty_like(rows), torch.empty_like(rows)
        kernel[(rows.numel() // hidden,)](
            rows, added, self.weight, out, total, self.eps, HIDDEN=hidden, BLOCK=triton.next_power_of_2(hidden),
            ADD=residual is not None, num_warps=8,
        )
        return out, total

    def on_cpu(self, x: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The same mistake in plain PyTorch."""
        wide = x.float() if residual is None else x.float() + residual.float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        normed[..., :-1] *= self.weight[:-1].float()
        return normed.to(x.dtype), wide.to(x.dtype)
