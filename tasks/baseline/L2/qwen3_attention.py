"""Qwen3's attention block: every query and key head is normalised before the rotary embedding."""

from collections.abc import Mapping
from typing import Any

import torch

from ..L1.rms_norm import RMSNorm
from ._attention_block import AttentionBlock


class Qwen3Attention(AttentionBlock):
    """Grouped-query attention with an RMSNorm over each query and key head.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context.
    rope_parameters: rope_theta, rope_type and what that needs, as in transformers' configs.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, num_kv_heads: int, rope_parameters: Mapping[str, Any],
        max_position: int = 4096 * 32, head_dim: int | None = None, rms_norm_eps: float = 1e-6, qkv_bias: bool = False,
        bias_o_proj: bool = False, sliding_window: int | None = None, prefix: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_dim or hidden_size // num_heads, max_position, rope_parameters,
            bias=qkv_bias, bias_o_proj=bias_o_proj, sliding_window=sliding_window, prefix=prefix, dtype=dtype,
        )  # fmt: skip
        self.q_norm = RMSNorm(self.head_dim, rms_norm_eps, dtype)
        self.k_norm = RMSNorm(self.head_dim, rms_norm_eps, dtype)
