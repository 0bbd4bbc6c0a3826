"""GLM-4.5's attention block: a bias, half of each head rotated, and norms over query and key heads where asked for."""

from typing import Any

import torch

from fastkernels.runtime.model_config import layer_index, rope_parameters

from ..L1.rms_norm import RMSNorm
from ._attention_block import AttentionBlock


class Glm4MoeAttention(AttentionBlock):
    """Grouped-query attention; use_qk_norm: with an RMSNorm over each query and key head.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context. config: the
    rotary embedding, of whose partial_rotary_factor's part of each head is rotated. qkv_bias: of queries, keys and
    values; the output's projection has none.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, max_position_embeddings: int = 131072,
        head_dim: int | None = None, rms_norm_eps: float = 1e-5, qkv_bias: bool = False, use_qk_norm: bool = False,
        prefix: str = "", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_dim or hidden_size // num_heads, max_position_embeddings,
            rope_parameters(config, layer_index(prefix)), bias=qkv_bias, prefix=prefix, dtype=dtype,
        )  # fmt: skip
        if use_qk_norm:
            self.q_norm = RMSNorm(self.head_dim, rms_norm_eps, dtype)
            self.k_norm = RMSNorm(self.head_dim, rms_norm_eps, dtype)
