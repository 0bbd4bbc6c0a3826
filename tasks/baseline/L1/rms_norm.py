"""Root mean square layer normalization, with the residual addition fused in."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fastkernels.runtime.op import Op


class RMSNorm(Op):
    """y = x / sqrt(mean(x^2) + eps) * weight; with a residual, of x + residual (Zhang and Sennrich, 2019).

    x: [..., H], residual: like x -> [..., H], or (normalised, x + residual). Mirrors vLLM's RMSNorm.
    """

    provider = "native"

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

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """With a residual both inputs may be overwritten, as vLLM's fused kernel does."""
        return () if inputs.get("residual") is None else ("x", "residual")
