"""OLMo-2's and OLMo-3's attention block: queries and keys are normalised over all heads before the rotary embedding."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import (
    head_size,
    layer_index,
    num_kv_heads,
    optional,
    rope_parameters,
    sliding_window,
)

from ..L1.rms_norm import RMSNorm
from ._attention_block import AttentionBlock


class Olmo2Attention(AttentionBlock):
    """Grouped-query attention with an RMSNorm over the whole query and one over the whole key of a token.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context. Ranks gather
    each other's heads for the norms, whose weights are whole on every rank. The layer's number is read off `prefix`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        layer, bias = layer_index(prefix), bool(optional(config, "attention_bias", False))
        heads, kv_heads, dim = config.num_attention_heads, num_kv_heads(config), head_size(config)
        super().__init__(
            config.hidden_size, heads, kv_heads, dim, config.max_position_embeddings, rope_parameters(config, layer),
            bias=bias, bias_o_proj=bias, sliding_window=sliding_window(config, layer), prefix=prefix, dtype=dtype,
        )  # fmt: skip
        self.q_norm = RMSNorm(heads * dim, config.rms_norm_eps, dtype)
        self.k_norm = RMSNorm(kv_heads * dim, config.rms_norm_eps, dtype)

    def norm_heads(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q: [T, q_size], k: [T, kv_size] -> the same shapes; with several ranks slices of what they have together."""
        return self._norm(q, self.q_norm, 1), self._norm(k, self.k_norm, self.qkv_proj.num_kv_head_replicas)

    def _norm(self, x: torch.Tensor, norm: nn.Module | None, replicas: int) -> torch.Tensor:
        """Normalise this rank's heads and those of all others, of which `replicas` in a row hold the same."""
        assert norm is not None
        group, width = self.qkv_proj.tp_group, x.shape[-1]
        if group.size == 1:
            alone: torch.Tensor = norm(x)
            return alone
        parts = group.all_gather(x).view(-1, group.size, width)[:, group.rank % replicas :: replicas]
        whole: torch.Tensor = norm(parts.flatten(1))
        return whole.view(parts.shape)[:, group.rank // replicas]
