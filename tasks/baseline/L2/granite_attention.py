"""Granite's attention block: Llama's with a scale of its own."""

from typing import Any

import torch

from fastkernels.runtime.model_config import head_size, layer_index, rope_parameters

from ._attention_block import AttentionBlock


class GraniteAttention(AttentionBlock):
    """Grouped-query attention with rotary embedding, whose scores are multiplied by the config's attention_multiplier.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context; the layer's
    number is read off `prefix`. bias: of all four projections.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, max_position_embeddings: int = 8192,
        bias: bool = False, prefix: str = "", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_size(config), max_position_embeddings,
            rope_parameters(config, layer_index(prefix)), bias=bias, bias_o_proj=bias,
            scale=float(config.attention_multiplier), prefix=prefix, dtype=dtype,
        )  # fmt: skip
