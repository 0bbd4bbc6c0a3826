"""Llama's attention block, which Mistral shares."""

from typing import Any

import torch

from fastkernels.runtime.model_config import head_size, layer_index, rope_parameters, sliding_window

from ._attention_block import AttentionBlock


class LlamaAttention(AttentionBlock):
    """Grouped-query attention with rotary embedding; head size, rotary embedding and window as the config says.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context; the layer's
    number is read off `prefix`.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, max_position_embeddings: int = 8192,
        bias: bool = False, bias_o_proj: bool = False, prefix: str = "", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        layer = layer_index(prefix)
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_size(config), max_position_embeddings,
            rope_parameters(config, layer), bias=bias, bias_o_proj=bias_o_proj,
            sliding_window=sliding_window(config, layer), prefix=prefix, dtype=dtype,
        )  # fmt: skip
