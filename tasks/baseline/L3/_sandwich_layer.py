"""The decoder layer of Gemma 2 and 3: a norm before and after attention, a norm before and after the MLP."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..L1.gemma_rms_norm import GemmaRMSNorm
from ..L2.gemma3_mlp import Gemma3MLP


class SandwichDecoderLayer(nn.Module):
    """Attention and MLP, each between two norms, of which the first has the residual addition fused in.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. Both may be overwritten.
    """

    def __init__(
        self, config: Any, self_attn: nn.Module, prefix: str = "", dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.mlp = Gemma3MLP(
            config.hidden_size, config.intermediate_size, config.hidden_activation, f"{prefix}.mlp", dtype
        )
        self.input_layernorm = GemmaRMSNorm(config.hidden_size, config.rms_norm_eps, dtype)
        self.post_attention_layernorm = GemmaRMSNorm(config.hidden_size, config.rms_norm_eps, dtype)
        self.pre_feedforward_layernorm = GemmaRMSNorm(config.hidden_size, config.rms_norm_eps, dtype)
        self.post_feedforward_layernorm = GemmaRMSNorm(config.hidden_size, config.rms_norm_eps, dtype)

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
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states, residual = self.pre_feedforward_layernorm(hidden_states, residual)
        return self.post_feedforward_layernorm(self.mlp(hidden_states)), residual
