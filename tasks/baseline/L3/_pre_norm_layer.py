"""The decoder layer of all families that normalise before attention and before the MLP, and nowhere else."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..L1.rms_norm import RMSNorm


class PreNormDecoderLayer(nn.Module):
    """Norm, attention, norm, MLP, with the residual additions fused into the norms.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. Both may be overwritten.
    """

    def __init__(
        self, config: Any, self_attn: nn.Module, mlp: nn.Module, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.mlp = mlp
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype)

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """hidden_states and, where there is one, residual may be overwritten, as fused norms do."""
        return ("hidden_states",) if inputs.get("residual") is None else ("hidden_states", "residual")

    def forward(
        self, positions: torch.Tensor, hidden_states: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The parts in order."""
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual
