"""Example candidate for rms_norm: one Triton kernel on CUDA, blocks of rows in one reused buffer on the CPU."""

import torch
from torch import nn

from fastkernels.runtime.jit import tl, triton

CPU_BLOCK = 2**18
"""Elements that the CPU normalises at a time: 1 MB of float32, which stays in a core's L2 cache (2 MB)."""


@triton.jit
def kernel(x, residual, weight, out, total, eps, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr):
    """One row of HIDDEN elements a program: out = (x + residual) / rms * weight, total = x + residual."""
    start = tl.program_id(0).to(tl.int64) * HIDDEN
    col = tl.arange(0, BLOCK)
    inside = col < HIDDEN
    row = tl.load(x + start + col, mask=inside, other=0.0).to(tl.float32)
    gain = tl.load(weight + col, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        row += tl.load(residual + start + col, mask=inside, other=0.0).to(tl.float32)
        tl.store(total + start + col, row.to(total.dtype.element_ty), mask=inside)
    row *= tl.rsqrt(tl.sum(row * row) / HIDDEN + eps)
    tl.store(out + start + col, (row * gain).to(out.dtype.element_ty), mask=inside)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32 inside; with a residual, of x + residual, which is returned too.

    x, residual: [..., H] -> [..., H] or a pair of those, in new memory.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-6, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype or torch.get_default_dtype()))

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Normalise the rows on whichever device x is."""
        if not x.is_cuda and x.numel() <= CPU_BLOCK:
            return self.in_one_block(x, residual)
        rows = x.reshape(-1, x.shape[-1])
        added = None if residual is None else residual.reshape(rows.shape)
        out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        total = out if added is None else torch.empty_like(out)
        (self.on_cuda if x.is_cuda else self.in_blocks)(rows, added, out, total)
        return out.view(x.shape) if added is None else (out.view(x.shape), total.view(x.shape))

    def on_cuda(
        self, rows: torch.Tensor, added: torch.Tensor | None, out: torch.Tensor, total: torch.Tensor
    ) -> None:
        """A program a row, 16 elements a thread up to 8192 columns."""
        count, hidden = rows.shape
        rows, block = rows.contiguous(), triton.next_power_of_2(hidden)
        kernel[(count,)](
            rows, rows if added is None else added.contiguous(), self.weight, out, total, self.eps, HIDDEN=hidden,
            BLOCK=block, ADD=added is not None, num_warps=min(16, max(1, block // 512)),
        )

    def in_one_block(
        self, x: torch.Tensor, residual: torch.Tensor | None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """A few rows on the CPU: one widened copy."""
        wide = x.to(torch.float32, copy=True)
        if residual is None:
            return self.normalise(wide, self.weight.float()).to(x.dtype)
        total = wide.add_(residual).to(x.dtype, copy=True)
        return self.normalise(wide, self.weight.float()).to(x.dtype), total

    def in_blocks(
        self, rows: torch.Tensor, added: torch.Tensor | None, out: torch.Tensor, total: torch.Tensor
    ) -> None:
        """Many rows on the CPU: blocks of them, each widened once and finished in place while it is in the cache."""
        count, hidden = rows.shape
        step = max(1, CPU_BLOCK // hidden)
        weight, buffer = self.weight.float(), torch.empty(min(step, count), hidden)
        for start in range(0, count, step):
            part = slice(start, start + step)
            wide = buffer[: min(step, count - start)].copy_(rows[part])
            if added is not None:
                wide += added[part]
                total[part].copy_(wide)
            out[part].copy_(self.normalise(wide, weight))

    def normalise(self, wide: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Divide float32 rows by their root mean square and scale them, in place."""
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        wide *= square.div_(wide.shape[-1]).add_(self.eps).rsqrt_()
        wide *= weight
        return wide
