"""Qwen2's decoder layer."""

from typing import Any

import torch

from fastkernels.runtime.model_config import layer_index, num_kv_heads, rope_parameters, sliding_window

from ..L2.llama_mlp import LlamaMLP
from ..L2.qwen2_attention import Qwen2Attention
from ._pre_norm_layer import PreNormDecoderLayer


class Qwen2DecoderLayer(PreNormDecoderLayer):
    """Attention and MLP, each after a norm.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. `prefix` names the layer, as in `model.layers.3`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        layer = layer_index(prefix)
        attention = Qwen2Attention(
            config.hidden_size, config.num_attention_heads, num_kv_heads(config), rope_parameters(config, layer),
            config.max_position_embeddings, sliding_window(config, layer), f"{prefix}.self_attn", dtype,
        )  # fmt: skip
        mlp = LlamaMLP(
            config.hidden_size, config.intermediate_size, config.hidden_act, prefix=f"{prefix}.mlp", dtype=dtype
        )
        super().__init__(config, attention, mlp, dtype)
