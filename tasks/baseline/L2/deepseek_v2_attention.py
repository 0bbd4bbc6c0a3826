"""DeepSeek's latent attention block, V2's and V3's."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import LATENT_EPS, layer_index, optional, rope_parameters
from fastkernels.runtime.model_config import latent_scale as attention_scale
from fastkernels.runtime.parallel import divide, tp_group

from ..L1.rms_norm import RMSNorm
from ._fused_qkv_a_proj import DeepSeekV2FusedQkvAProjLinear
from ._mla_attention import MLAAttention
from ._rotary import rotary_embedding
from .parallel_linear import ColumnParallelLinear, ReplicatedLinear, RowParallelLinear


class DeepseekV2MLAAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-V2, 2024): keys and values lie in the cache as one low-rank vector a token.

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size], summed over ranks; without reduce_results
    this rank's part of the sum. Reads the forward context. q_lora_rank None: queries straight from hidden_states
    (V2-Lite). config: the rotary embedding's keys, attention_bias. Norms of latents have an epsilon of their own. Under
    YaRN scores grow by the square of mscale_all_dim's factor. input_size: width of hidden_states where it is not
    hidden_size.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, qk_nope_head_dim: int, qk_rope_head_dim: int,
        v_head_dim: int, q_lora_rank: int | None, kv_lora_rank: int, max_position_embeddings: int = 8192,
        prefix: str = "", input_size: int | None = None, reduce_results: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.hidden_size = hidden_size
        self.qk_nope_head_dim = qk_nope_head_dim
        self.qk_rope_head_dim = qk_rope_head_dim
        self.qk_head_dim = qk_nope_head_dim + qk_rope_head_dim
        self.v_head_dim = v_head_dim
        self.q_lora_rank = q_lora_rank
        self.kv_lora_rank = kv_lora_rank
        self.num_heads = num_heads
        self.num_local_heads = divide(num_heads, tp_group().size, f"{prefix or type(self).__name__}: query heads")
        rope = rope_parameters(config, layer_index(prefix))
        self.scaling = attention_scale(self.qk_head_dim, rope)
        self._build_projections(
            input_size or hidden_size, bool(optional(config, "attention_bias", False)), reduce_results, prefix, dtype
        )
        self.rotary_emb = rotary_embedding(
            qk_rope_head_dim, max_position_embeddings, deepseek_rope(rope), dtype,
            is_neox_style=not optional(config, "rope_interleave", True),
        )  # fmt: skip
        self.mla_attn = MLAAttention(
            self.num_local_heads, self.scaling, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, q_lora_rank,
            kv_lora_rank, self.kv_b_proj, f"{prefix}.attn",
        )  # fmt: skip

    def _build_projections(
        self, width: int, bias: bool, reduce_results: bool, prefix: str, dtype: torch.dtype | None
    ) -> None:
        """Make the layers that have weights; those of queries by whether q_lora_rank is given."""
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        queries = self.num_heads * self.qk_head_dim
        if self.q_lora_rank is not None:
            self.fused_qkv_a_proj = DeepSeekV2FusedQkvAProjLinear(
                width, [self.q_lora_rank, latent], f"{prefix}.fused_qkv_a_proj", bias, dtype
            )
            self.q_a_layernorm = RMSNorm(self.q_lora_rank, LATENT_EPS, dtype)
            self.q_b_proj = ColumnParallelLinear(
                self.q_lora_rank, queries, False, params_dtype=dtype, prefix=f"{prefix}.q_b_proj"
            )
        else:
            self.kv_a_proj_with_mqa = ReplicatedLinear(width, latent, bias, dtype, f"{prefix}.kv_a_proj_with_mqa")
            self.q_proj = ColumnParallelLinear(width, queries, False, params_dtype=dtype, prefix=f"{prefix}.q_proj")
        self.kv_a_layernorm = RMSNorm(self.kv_lora_rank, LATENT_EPS, dtype)
        self.kv_b_proj = ColumnParallelLinear(
            self.kv_lora_rank, self.num_heads * (self.qk_nope_head_dim + self.v_head_dim), False, params_dtype=dtype,
            prefix=f"{prefix}.kv_b_proj",
        )  # fmt: skip
        self.o_proj = RowParallelLinear(
            self.num_heads * self.v_head_dim, self.hidden_size, bias, params_dtype=dtype,
            reduce_results=reduce_results, prefix=f"{prefix}.o_proj",
        )  # fmt: skip

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        if self.q_lora_rank is not None:
            down, _ = self.fused_qkv_a_proj(hidden_states)
            q_c, latent = down.split([self.q_lora_rank, self.kv_lora_rank + self.qk_rope_head_dim], dim=-1)
            q, _ = self.q_b_proj(self.q_a_layernorm(q_c))
        else:
            latent, _ = self.kv_a_proj_with_mqa(hidden_states)
            q, _ = self.q_proj(hidden_states)
        kv_c, k_pe = latent.split([self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        kv_c = self.kv_a_layernorm(kv_c)
        q = q.view(-1, self.num_local_heads, self.qk_head_dim)
        q_pe = q[..., self.qk_nope_head_dim :]
        rotated, k_pe = self.rotary_emb(positions, q_pe, k_pe)
        if rotated is not q_pe:  # on CUDA it was rotated where it lies
            q_pe.copy_(rotated)
        output: torch.Tensor
        output, _ = self.o_proj(self.mla_attn(q, kv_c, k_pe))
        return output


def deepseek_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """The config's rotary embedding; DeepSeek's YaRN has defaults of its own for mscale and mscale_all_dim."""
    return rope | {"rope_type": "deepseek_yarn"} if rope["rope_type"] == "yarn" else rope
