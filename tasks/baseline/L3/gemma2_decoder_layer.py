"""Gemma 2's decoder layer."""

from typing import Any

import torch

from fastkernels.runtime.model_config import head_size, num_kv_heads

from ..L2.gemma2_attention import Gemma2Attention
from ._sandwich_layer import SandwichDecoderLayer


class Gemma2DecoderLayer(SandwichDecoderLayer):
    """Attention and MLP, each between two norms, of which the first has the residual addition fused in.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. Both may be overwritten. `prefix` names the layer, as in
    `model.layers.3`, and its number tells whether it has a window.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        attention = Gemma2Attention(
            config, config.hidden_size, config.num_attention_heads, num_kv_heads(config), head_size(config),
            config.max_position_embeddings, config.attn_logit_softcapping, f"{prefix}.self_attn", dtype,
        )  # fmt: skip
        super().__init__(config, attention, prefix, dtype)
