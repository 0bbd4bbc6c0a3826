"""Gemma 3's attention block: normalised heads, a scale of its own, and two kinds of layers."""

from typing import Any

import torch

from fastkernels.runtime.model_config import check_choice, layer_index, optional, rope_parameters, sliding_window

from ..L1.gemma_rms_norm import GemmaRMSNorm
from ._attention_block import AttentionBlock

UNUSED = {"attn_logit_softcapping": None, "use_bidirectional_attention": False}
"""What Gemma 3's config class can say and none of its text models does."""


class Gemma3Attention(AttentionBlock):
    """Grouped-query attention over all keys or a window of them, each kind of layer with its own rotary embedding.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context. config:
    layer_types or sliding_window_pattern, sliding_window, the rotary embeddings, query_pre_attn_scalar (scores are
    divided by its root), rms_norm_eps (of the norms over each query and key head), attention_bias. The layer's number
    is read off `prefix`. ModelError for soft-capped scores and for attention in both directions.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, head_dim: int,
        max_position_embeddings: int, prefix: str = "", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        for name, value in UNUSED.items():
            check_choice(name, str(optional(config, name, value)), str(value))
        layer, bias = layer_index(prefix), bool(optional(config, "attention_bias", False))
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_dim, max_position_embeddings, rope_parameters(config, layer),
            bias=bias, bias_o_proj=bias, scale=config.query_pre_attn_scalar**-0.5,
            sliding_window=sliding_window(config, layer), prefix=prefix, dtype=dtype,
        )  # fmt: skip
        self.q_norm = GemmaRMSNorm(head_dim, config.rms_norm_eps, dtype)
        self.k_norm = GemmaRMSNorm(head_dim, config.rms_norm_eps, dtype)
