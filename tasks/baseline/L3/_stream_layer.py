"""The decoder layer of families that normalise before attention and MLP and add to the residual stream themselves."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from fastkernels.runtime.model_config import norm_eps

from ..L1.rms_norm import RMSNorm


class StreamDecoderLayer(nn.Module):
    """x + m attention(norm(x)), then the same with the MLP; m is residual_multiplier.

    positions: [T] int64, hidden_states: [T, H] -> [T, H]. hidden_states may be overwritten.
    """

    norm: ClassVar[Callable[..., nn.Module]] = RMSNorm
    """Builds a norm from (hidden_size, eps, dtype)."""

    def __init__(
        self, config: Any, self_attn: nn.Module, mlp: nn.Module, dtype: torch.dtype | None = None,
        residual_multiplier: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.self_attn = self_attn
        self.mlp = mlp
        self.residual_multiplier = residual_multiplier
        self.input_layernorm = type(self).norm(config.hidden_size, norm_eps(config), dtype)
        self.post_attention_layernorm = type(self).norm(config.hidden_size, norm_eps(config), dtype)

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """hidden_states may be overwritten: the next layer reads what this one returns."""
        del inputs
        return ("hidden_states",)

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        residual = hidden_states
        hidden_states = self.self_attn(positions=positions, hidden_states=self.input_layernorm(hidden_states))
        hidden_states = residual + hidden_states * self.residual_multiplier
        residual = hidden_states
        hidden_states = self.mlp(self.post_attention_layernorm(hidden_states))
        return residual + hidden_states * self.residual_multiplier
