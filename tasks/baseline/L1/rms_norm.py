"""Root mean square layer normalization, with the residual addition fused in."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op


@triton.jit(do_not_specialize=["rows", "eps"])
def rms_norm_kernel(
    x_ptr, residual_ptr, weight_ptr, out_ptr, rows, inner, x_outer, x_inner, residual_outer, residual_inner,
    out_outer, out_inner, eps, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """out = x / sqrt(mean(x^2) + eps) * weight, ROWS rows of HIDDEN elements a program, each row in registers.

    Row r lies at (r // inner) * outer + (r % inner) * inner stride. With RESIDUAL, x + residual is written back to
    residual and normalised unrounded. Sums in float32.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    outer, within = (row // inner).to(tl.int64), row % inner
    in_row = row < rows if ROWS > 1 else tl.full((1, 1), True, tl.int1)
    mask = in_row if BLOCK == HIDDEN else in_row & (col < HIDDEN)
    x = tl.load(x_ptr + outer * x_outer + within * x_inner + col, mask=mask, other=0.0).to(tl.float32)
    if RESIDUAL:
        residual_ptrs = residual_ptr + outer * residual_outer + within * residual_inner + col
        x += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)
    # The weight is asked for before the sum, so that its latency overlaps the row's.
    weight = tl.load(weight_ptr + col, mask=col < HIDDEN, other=0.0).to(tl.float32)
    if RESIDUAL:
        tl.store(residual_ptrs, x.to(residual_ptr.dtype.element_ty), mask=mask)
    scale = tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) * (1.0 / HIDDEN) + eps)
    y = x * scale * weight
    tl.store(out_ptr + outer * out_outer + within * out_inner + col, y.to(out_ptr.dtype.element_ty), mask=mask)


def launch_shape(rows: int, block: int, residual: bool) -> tuple[int, int]:
    """(rows a program, warps a program) for padded rows of `block` elements."""
    if block <= 1024:
        return 1024 // block, 4
    if not residual:
        return 1, min(16, max(4, block // 512 if block <= 4096 else block // 1024))
    if rows <= 128:
        return 1, min(16, block // 512)
    if rows <= 1024:
        return 1, max(4, block // 2048)
    return (2, 4) if block <= 4096 else (1, 16)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """[..., H] -> view [outer, inner, H] with unit stride in H; copies only what has no such view."""
    if x.stride(-1) != 1 or x.dim() > 3:
        x = x.contiguous().flatten(0, -2)
    return x if x.dim() == 3 else x.reshape(-1, 1, x.shape[-1])


class RMSNorm(Op):
    """y = x / sqrt(mean(x^2) + eps) * weight; with a residual, of x + residual (Zhang and Sennrich, 2019).

    x: [..., H], residual: like x -> [..., H], or (normalised, x + residual). Mirrors vLLM's RMSNorm.
    On CUDA with a residual both results are written over the inputs, which `donates` allows; else x is left alone.
    """

    provider = "triton"

    def __init__(self, hidden_size: int, eps: float = 1e-6, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.variance_epsilon = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype or torch.get_default_dtype()))

    def forward_native(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Plain PyTorch, accumulating in float32 or better."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if residual is not None:
            wide = wide + residual.to(wide.dtype)
        scale = torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.variance_epsilon)
        normed = (wide * scale * self.weight.to(wide.dtype)).to(x.dtype)
        return normed if residual is None else (normed, wide.to(x.dtype))

    def forward_cuda(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """One Triton kernel, in float32 inside; rows and heads of x and residual may be strided."""
        rows_of_x = as_rows(x)
        rows_of_residual = rows_of_x if residual is None else as_rows(residual)
        out = torch.empty_like(rows_of_x, memory_format=torch.contiguous_format) if residual is None else rows_of_x
        outer, inner, hidden = rows_of_x.shape
        rows, block = outer * inner, triton.next_power_of_2(hidden)
        per_program, num_warps = launch_shape(rows, block, residual is not None)
        rms_norm_kernel[(triton.cdiv(rows, per_program),)](
            rows_of_x, rows_of_residual, self.weight, out, rows, inner, *rows_of_x.stride()[:2],
            *rows_of_residual.stride()[:2], *out.stride()[:2], self.variance_epsilon, HIDDEN=hidden, BLOCK=block,
            ROWS=per_program, RESIDUAL=residual is not None, num_warps=num_warps,
        )
        return out.view(x.shape) if residual is None else (out.view(x.shape), rows_of_residual.view(x.shape))

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """With a residual both inputs may be overwritten, as vLLM's fused kernel does."""
        return () if inputs.get("residual") is None else ("x", "residual")
