"""Qwen2's attention block: Llama's with a bias on queries, keys and values."""

from collections.abc import Mapping
from typing import Any

import torch

from ._attention_block import AttentionBlock


class Qwen2Attention(AttentionBlock):
    """Grouped-query attention with rotary embedding and a bias on the fused projection, none on the output's.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context.
    rope_parameters: rope_theta, rope_type and what that needs, as in transformers' configs.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, num_kv_heads: int, rope_parameters: Mapping[str, Any],
        max_position: int = 4096 * 32, sliding_window: int | None = None, prefix: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hidden_size, num_heads, num_kv_heads, hidden_size // num_heads, max_position, rope_parameters, bias=True,
            sliding_window=sliding_window, prefix=prefix, dtype=dtype,
        )  # fmt: skip
