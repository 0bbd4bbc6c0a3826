"""What the attention blocks of all families with a fused q/k/v projection have in common."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ._rotary import rotary_embedding
from .attention import Attention
from .parallel_linear import QKVParallelLinear, RowParallelLinear


class AttentionBlock(nn.Module):
    """Projection to queries, keys and values, rotary embedding, attention over the paged cache, output projection.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context. Families set
    `q_norm` and `k_norm` and override `norm_heads` and `make_sinks`. rope_parameters None: a layer without positions.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, num_kv_heads: int, head_dim: int, max_position: int,
        rope_parameters: Mapping[str, Any] | None, *, bias: bool = False, bias_o_proj: bool = False,
        scale: float | None = None, logits_soft_cap: float | None = None, sliding_window: int | None = None,
        prefix: str = "", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.qkv_proj = QKVParallelLinear(
            hidden_size, head_dim, num_heads, num_kv_heads, bias, dtype, f"{prefix}.qkv_proj"
        )
        self.o_proj = RowParallelLinear(
            num_heads * head_dim, hidden_size, bias_o_proj, params_dtype=dtype, prefix=f"{prefix}.o_proj"
        )
        self.hidden_size = hidden_size
        self.num_heads = self.qkv_proj.num_heads
        self.num_kv_heads = self.qkv_proj.num_kv_heads
        self.head_dim = head_dim
        self.q_size = self.num_heads * head_dim
        self.kv_size = self.num_kv_heads * head_dim
        self.scaling = head_dim**-0.5 if scale is None else scale
        self.q_norm: nn.Module | None = None
        self.k_norm: nn.Module | None = None
        self.rotary_emb = rotary_embedding(head_dim, max_position, rope_parameters, dtype)
        self.sinks = self.make_sinks(dtype)
        cap = {} if logits_soft_cap is None else {"logits_soft_cap": logits_soft_cap}  # a replacement may have none
        self.attn = Attention(
            self.num_heads, head_dim, self.scaling, self.num_kv_heads, sliding_window, self.sinks, f"{prefix}.attn",
            **cap,
        )  # fmt: skip

    def make_sinks(self, dtype: torch.dtype | None) -> nn.Parameter | None:
        """Sinks of this rank's heads; none unless a family has them."""
        del dtype
        return None

    def norm_heads(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q: [T, q_size], k: [T, kv_size] -> the same shapes, each head normalised where the family has norms."""
        if self.q_norm is not None:
            q = self.q_norm(q.view(-1, self.num_heads, self.head_dim)).view(-1, self.q_size)
        if self.k_norm is not None:
            k = self.k_norm(k.view(-1, self.num_kv_heads, self.head_dim)).view(-1, self.kv_size)
        return q, k

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q, k = self.norm_heads(q, k)
        q, k = self.rotary_emb(positions, q, k)
        output: torch.Tensor
        output, _ = self.o_proj(self.attn(q, k, v))
        return output
