"""SmolLM3's decoder layer."""

from typing import Any

import torch

from fastkernels.runtime.model_config import num_kv_heads, optional

from ..L2.llama_mlp import LlamaMLP
from ..L2.smollm3_attention import SmolLM3Attention
from ._pre_norm_layer import PreNormDecoderLayer


class SmolLM3DecoderLayer(PreNormDecoderLayer):
    """Attention and MLP, each after a norm.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. `prefix` names the layer, as in `model.layers.3`, and its number tells
    whether it has positions.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        bias = bool(optional(config, "attention_bias", False))
        attention = SmolLM3Attention(
            config, config.hidden_size, config.num_attention_heads, num_kv_heads(config),
            config.max_position_embeddings, bias, bias, f"{prefix}.self_attn", dtype,
        )  # fmt: skip
        mlp = LlamaMLP(
            config.hidden_size, config.intermediate_size, config.hidden_act,
            bias=bool(optional(config, "mlp_bias", False)), prefix=f"{prefix}.mlp", dtype=dtype,
        )  # fmt: skip
        super().__init__(config, attention, mlp, dtype)
