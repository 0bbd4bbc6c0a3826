"""Qwen3's decoder layer with experts."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import (
    has_experts,
    head_size,
    layer_index,
    num_kv_heads,
    optional,
    rope_parameters,
    sliding_window,
)

from ..L2.llama_mlp import LlamaMLP
from ..L2.qwen3_attention import Qwen3Attention
from ..L2.qwen3_moe import Qwen3MoeSparseMoeBlock
from ._pre_norm_layer import PreNormDecoderLayer


class Qwen3MoeDecoderLayer(PreNormDecoderLayer):
    """Attention and experts, in some layers an MLP, each after a norm.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. `prefix` names the layer, as in `model.layers.3`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        layer, bias = layer_index(prefix), bool(optional(config, "attention_bias", False))
        attention = Qwen3Attention(
            config.hidden_size, config.num_attention_heads, num_kv_heads(config), rope_parameters(config, layer),
            config.max_position_embeddings, head_size(config), config.rms_norm_eps, bias, bias,
            sliding_window(config, layer), f"{prefix}.self_attn", dtype,
        )  # fmt: skip
        mlp: nn.Module
        if has_experts(config, layer):
            mlp = Qwen3MoeSparseMoeBlock(config, f"{prefix}.mlp", dtype)
        else:
            mlp = LlamaMLP(
                config.hidden_size, config.intermediate_size, config.hidden_act, prefix=f"{prefix}.mlp", dtype=dtype
            )
        super().__init__(config, attention, mlp, dtype)
