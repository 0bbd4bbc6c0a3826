"""Gemma's root mean square layer normalization: the weight is an offset from 1; the residual addition fused in."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op

MANY_ROWS = 2048
"""From here on the memory is busy throughout, and how many bytes a warp asks for at once counts more than latency."""


@triton.jit(do_not_specialize=["rows", "eps"])
def gemma_rms_norm_kernel(
    x_ptr, residual_ptr, weight_ptr, out_ptr, sum_ptr, rows, inner, x_outer, x_inner, residual_outer, residual_inner,
    eps, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, RESIDUAL: tl.constexpr,
    SUM_LAST: tl.constexpr,
):
    """out = x / sqrt(mean(x^2) + eps) * (1 + weight), ROWS rows of HIDDEN elements a program, each row in registers.

    Row r of x lies at (r // inner) * x_outer + (r % inner) * x_inner, and at r * HIDDEN in out. With RESIDUAL,
    x + residual is written to sum_ptr and normalised unrounded. Sums in float32.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    outer, within = (row // inner).to(tl.int64), row % inner
    in_row = row < rows if ROWS > 1 else tl.full((1, 1), True, tl.int1)
    mask = in_row if BLOCK == HIDDEN else in_row & (col < HIDDEN)
    to = row.to(tl.int64) * HIDDEN + col
    x = tl.load(x_ptr + outer * x_outer + within * x_inner + col, mask=mask, other=0.0).to(tl.float32)
    if RESIDUAL:
        residual_ptrs = residual_ptr + outer * residual_outer + within * residual_inner + col
        x += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)
    # The weight is asked for before the sum, so that its latency overlaps the row's.
    weight = tl.load(weight_ptr + col, mask=col < HIDDEN, other=0.0).to(tl.float32)
    if RESIDUAL and not SUM_LAST:
        tl.store(sum_ptr + to, x.to(sum_ptr.dtype.element_ty), mask=mask)
    scale = tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) * (1.0 / HIDDEN) + eps)
    if RESIDUAL and SUM_LAST:
        tl.store(sum_ptr + to, x.to(sum_ptr.dtype.element_ty), mask=mask)
    tl.store(out_ptr + to, (x * scale * (1.0 + weight)).to(out_ptr.dtype.element_ty), mask=mask)


def launch_shape(rows: int, block: int, residual: bool) -> tuple[int, int]:
    """(rows a program, warps a program) for padded rows of `block` elements.

    Those of rms_norm, whose sweeps on an H200 in bf16 cover the same traffic.
    """
    if block <= 1024:
        return max(1, (512 if rows <= 64 else 2048) // block), 4
    if not residual:
        return 1, 4 if block <= 2048 else 8 if block <= 8192 else 16
    if rows >= MANY_ROWS:
        return 1, min(8, max(2, block // 2048))
    return 1, 8 if rows > 128 else min(32, max(8, block // 512))


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """[..., H] -> view [outer, inner, H] with unit stride in H; copies only what has no such view."""
    if x.stride(-1) != 1 or x.dim() > 3:
        x = x.contiguous().flatten(0, -2)
    return x if x.dim() == 3 else x.reshape(-1, 1, x.shape[-1])


class GemmaRMSNorm(Op):
    """y = x / sqrt(mean(x^2) + eps) * (1 + weight); with a residual, of x + residual (Gemma, 2024).

    x: [..., H], residual: like x -> [..., H], or (normalised, x + residual). Mirrors vLLM's GemmaRMSNorm; the product
    with the weight is taken before rounding to x's dtype. Results are new memory on every device.
    """

    provider = "triton"

    def __init__(self, hidden_size: int, eps: float = 1e-6, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.variance_epsilon = eps
        self.weight = nn.Parameter(torch.zeros(hidden_size, dtype=dtype or torch.get_default_dtype()))

    def forward_native(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Plain PyTorch, accumulating in float32 or better."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if residual is not None:
            wide = wide + residual.to(wide.dtype)
        scale = torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.variance_epsilon)
        normed = (wide * scale * (1.0 + self.weight.to(wide.dtype))).to(x.dtype)
        return normed if residual is None else (normed, wide.to(x.dtype))

    def forward_cuda(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """One Triton kernel, in float32 inside; rows and heads of x and residual may be strided."""
        rows_of_x = as_rows(x)
        rows_of_residual = rows_of_x if residual is None else as_rows(residual)
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        total = out if residual is None else torch.empty_like(out)
        outer, inner, hidden = rows_of_x.shape
        rows, block = outer * inner, triton.next_power_of_2(hidden)
        per_program, num_warps = launch_shape(rows, block, residual is not None)
        gemma_rms_norm_kernel[(triton.cdiv(rows, per_program),)](
            rows_of_x, rows_of_residual, self.weight, out, total, rows, inner, *rows_of_x.stride()[:2],
            *rows_of_residual.stride()[:2], self.variance_epsilon, HIDDEN=hidden, BLOCK=block, ROWS=per_program,
            RESIDUAL=residual is not None, SUM_LAST=rows >= MANY_ROWS, num_warps=num_warps,
        )
        return out if residual is None else (out, total)

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Without a residual: norms of heads or latents read slices of the fused projection."""
        return ("x",) if inputs.get("residual") is None else ()

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """With a residual both inputs may be overwritten, as vLLM's fused kernel does."""
        return () if inputs.get("residual") is None else ("x", "residual")
