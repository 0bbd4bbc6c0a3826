"""OLMo-2's and OLMo-3's decoder layer: norms after attention and after the MLP, none before them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..L1.rms_norm import RMSNorm
from ..L2.llama_mlp import LlamaMLP
from ..L2.olmo2_attention import Olmo2Attention


class Olmo2DecoderLayer(nn.Module):
    """x + norm(attention(x)), then the same with the MLP.

    positions: [T] int64, hidden_states: [T, H] -> [T, H]. hidden_states may be overwritten. `prefix` names the layer,
    as in `model.layers.3`, and its number tells whether it has a window.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.self_attn = Olmo2Attention(config, f"{prefix}.self_attn", dtype)
        self.mlp = LlamaMLP(
            config.hidden_size, config.intermediate_size, config.hidden_act, prefix=f"{prefix}.mlp", dtype=dtype
        )
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype)

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """hidden_states may be overwritten: the next layer reads what this one returns."""
        del inputs
        return ("hidden_states",)

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        attended = self.self_attn(positions=positions, hidden_states=hidden_states)
        hidden_states = hidden_states + self.post_attention_layernorm(attended)
        return hidden_states + self.post_feedforward_layernorm(self.mlp(hidden_states))
