"""Latent attention over its paged cache: prompts by expanded keys and values, decoding sequences on the latents."""

import torch
from torch import nn

from fastkernels.runtime.forward_context import PrefillMetadata, get_forward_context

from ..L1.flash_attn_prefill import FlashAttnPrefill
from ..L1.mla_decode import MLADecode
from ..L1.store_mla_cache import StoreMLACache
from .attention import known_rows
from .parallel_linear import ColumnParallelLinear


class MLAAttention(nn.Module):
    """Causal multi-head latent attention of a batch (DeepSeek-V2, 2024); `prefix` names its cache in the context.

    q: [T, num_heads, qk_nope_head_dim + qk_rope_head_dim], its last part rotated; kv_c_normed: [T, kv_lora_rank];
    k_pe: [T, qk_rope_head_dim], rotated -> [T, num_heads * v_head_dim]. Decoding sequences come first. With kv_b_proj's
    rows of a head (W_UK, then W_UV), which is the owner's layer, a prompt's keys are (W_UK c, k_pe) and its values
    W_UV c; a decoding sequence multiplies its query by W_UK and the attended latents by W_UV instead, so that the cache
    is read as it is. Both parts are copied out of kv_b_proj once its weights are loaded.
    """

    def __init__(
        self, num_heads: int, scale: float, qk_nope_head_dim: int, qk_rope_head_dim: int, v_head_dim: int,
        q_lora_rank: int | None, kv_lora_rank: int, kv_b_proj: ColumnParallelLinear, prefix: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.qk_nope_head_dim = qk_nope_head_dim
        self.qk_rope_head_dim = qk_rope_head_dim
        self.v_head_dim = v_head_dim
        self.q_lora_rank = q_lora_rank
        self.kv_lora_rank = kv_lora_rank
        self.layer_name = prefix
        self._kv_b_proj = (kv_b_proj,)  # in a tuple, so that it is registered once, as the owner's
        weight = kv_b_proj.weight
        self.w_uk: torch.Tensor
        self.w_uv: torch.Tensor
        # NaN until the weights are there: outputs then say that they never came.
        for name, rows, columns in (("w_uk", qk_nope_head_dim, kv_lora_rank), ("w_uv", kv_lora_rank, v_head_dim)):
            unset = torch.full((num_heads, rows, columns), float("nan"), dtype=weight.dtype, device=weight.device)
            self.register_buffer(name, unset, persistent=False)
        self.store_mla_cache = StoreMLACache()
        self.prefill = FlashAttnPrefill(num_heads, qk_nope_head_dim + qk_rope_head_dim, scale, num_heads)
        self.decode = MLADecode(num_heads, kv_lora_rank, qk_rope_head_dim, scale)

    def process_weights_after_loading(self) -> None:
        """Lay W_UK and W_UV out for products by head; in place, since captured graphs hold their addresses."""
        weight = self._kv_b_proj[0].weight.detach()
        by_head = weight.view(self.num_heads, self.qk_nope_head_dim + self.v_head_dim, self.kv_lora_rank)
        w_uk, w_uv = by_head.split([self.qk_nope_head_dim, self.v_head_dim], dim=1)
        with torch.no_grad():
            self.w_uk.copy_(w_uk)
            self.w_uv.copy_(w_uv.transpose(1, 2))

    def kv_cache_shapes(self, pages: int, page_size: int) -> tuple[tuple[int, ...], ...]:
        """Shape of the layer's one cache: a token's latent vector, then its rotated key."""
        return ((pages, page_size, self.kv_lora_rank + self.qk_rope_head_dim),)

    def forward(self, q: torch.Tensor, kv_c_normed: torch.Tensor, k_pe: torch.Tensor) -> torch.Tensor:
        """One store, then one decode and one prefill call for what the batch has of each."""
        context = get_forward_context()
        batch, (cache,) = context.metadata, context.kv_cache(self.layer_name)
        self.store_mla_cache(kv_c_normed, k_pe, cache, batch.slot_mapping)
        count, parts = batch.num_decodes, []
        if count:
            latents = self.decode(
                self.absorbed(q[:count]), cache, batch.block_table, batch.seqused_k, batch.max_seqlen_k
            )
            parts.append(torch.bmm(latents.transpose(0, 1), self.w_uv).transpose(0, 1))
        if batch.prefill is not None:
            new = batch.prefill
            keys, values = self.expanded(new, kv_c_normed[count:], k_pe[count:], cache)
            parts.append(
                self.prefill(
                    q[count:], keys, values, new.cu_seqlens_q, new.cu_seqlens_k, new.max_seqlen_q, new.max_seqlen_k
                )
            )
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return y.reshape(-1, self.num_heads * self.v_head_dim)

    def absorbed(self, q: torch.Tensor) -> torch.Tensor:
        """Queries on latents, [B, num_heads, kv_lora_rank + qk_rope_head_dim]: (W_UK^T q_nope, q_pe)."""
        q_nope, q_pe = q.split([self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1)
        return torch.cat((torch.bmm(q_nope.transpose(0, 1), self.w_uk).transpose(0, 1), q_pe), dim=-1)

    def expanded(
        self, prefill: PrefillMetadata, kv_c: torch.Tensor, k_pe: torch.Tensor, cache: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [S, num_heads, qk_nope_head_dim + qk_rope_head_dim] and values [S, num_heads, v_head_dim] of prompts."""
        if prefill.key_slots is not None:
            kv_c, k_pe = known_rows(prefill, kv_c, cache).split([self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        kv, _ = self._kv_b_proj[0](kv_c)
        kv = kv.view(-1, self.num_heads, self.qk_nope_head_dim + self.v_head_dim)
        k_nope, values = kv.split([self.qk_nope_head_dim, self.v_head_dim], dim=-1)
        k_pe = k_pe.unsqueeze(1).expand(-1, self.num_heads, -1)
        return torch.cat((k_nope, k_pe), dim=-1), values
