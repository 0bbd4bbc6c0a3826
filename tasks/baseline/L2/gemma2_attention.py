"""Gemma 2's attention block: soft-capped scores, a scale of its own, and two kinds of layers."""

from typing import Any

import torch

from fastkernels.runtime.model_config import check_choice, layer_index, optional, rope_parameters, sliding_window

from ._attention_block import AttentionBlock


class Gemma2Attention(AttentionBlock):
    """Grouped-query attention over all keys or a window of them; attn_logits_soft_cap bounds the scores by tanh.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context. config:
    layer_types or sliding_window_pattern, sliding_window, the rotary embedding, query_pre_attn_scalar (scores are
    divided by its root), attention_bias. The layer's number is read off `prefix`. ModelError for attention in both
    directions.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, head_dim: int,
        max_position_embeddings: int, attn_logits_soft_cap: float | None = None, prefix: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        both_ways = str(optional(config, "use_bidirectional_attention", False))
        check_choice("use_bidirectional_attention", both_ways, "False")
        layer, bias = layer_index(prefix), bool(optional(config, "attention_bias", False))
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_dim, max_position_embeddings, rope_parameters(config, layer),
            bias=bias, bias_o_proj=bias, scale=config.query_pre_attn_scalar**-0.5,
            logits_soft_cap=attn_logits_soft_cap, sliding_window=sliding_window(config, layer), prefix=prefix,
            dtype=dtype,
        )  # fmt: skip
