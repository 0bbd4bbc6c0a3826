"""Granite's decoder layer."""

from typing import Any

import torch

from fastkernels.runtime.model_config import num_kv_heads, optional

from ..L2.granite_attention import GraniteAttention
from ..L2.llama_mlp import LlamaMLP
from ._stream_layer import StreamDecoderLayer


class GraniteDecoderLayer(StreamDecoderLayer):
    """Attention and MLP, each after a norm and times the config's residual_multiplier.

    positions: [T] int64, hidden_states: [T, H] -> [T, H]. hidden_states may be overwritten. `prefix` names the layer,
    as in `model.layers.3`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        attention = GraniteAttention(
            config, config.hidden_size, config.num_attention_heads, num_kv_heads(config),
            config.max_position_embeddings, bool(optional(config, "attention_bias", False)), f"{prefix}.self_attn",
            dtype,
        )  # fmt: skip
        mlp = LlamaMLP(
            config.hidden_size, config.intermediate_size, config.hidden_act,
            bias=bool(optional(config, "mlp_bias", False)), prefix=f"{prefix}.mlp", dtype=dtype,
        )  # fmt: skip
        super().__init__(config, attention, mlp, dtype, float(config.residual_multiplier))
