"""StarCoder2's attention block: Llama's with biases."""

from typing import Any

import torch

from fastkernels.runtime.model_config import head_size, layer_index, num_kv_heads, optional, rope_parameters

from ._attention_block import AttentionBlock


class Starcoder2Attention(AttentionBlock):
    """Grouped-query attention with rotary embedding, in every layer over a window where the config names one.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context. config: head
    sizes, the rotary embedding, sliding_window, use_bias (of all four projections, true by default).
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        bias = bool(optional(config, "use_bias", True))
        super().__init__(
            config.hidden_size, config.num_attention_heads, num_kv_heads(config), head_size(config),
            config.max_position_embeddings, rope_parameters(config, layer_index(prefix)), bias=bias, bias_o_proj=bias,
            sliding_window=optional(config, "sliding_window", None), prefix=prefix, dtype=dtype,
        )  # fmt: skip
