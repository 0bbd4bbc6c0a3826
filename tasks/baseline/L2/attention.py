"""Attention over the paged cache: stores new keys and values, then attends prompts and decoding sequences."""

import torch
from torch import nn

from fastkernels.runtime.forward_context import PrefillMetadata, get_forward_context

from ..L1.flash_attn_decode import FlashAttnDecode
from ..L1.flash_attn_prefill import FlashAttnPrefill
from ..L1.store_kvcache import StoreKVCache


class Attention(nn.Module):
    """Causal attention of a batch, described by the forward context; `prefix` names the layer's KV cache there.

    query: [T, num_heads * head_size], key, value: [T, num_kv_heads * head_size] -> [T, num_heads * head_size].
    Decoding sequences (one token each) come first, then those of several tokens. logits_soft_cap: what tanh bounds
    scaled scores by. sliding_window: keys that a token sees, itself included. sinks: [num_heads], logits that take part
    in the softmax without a value; the owner's parameter, not this module's.
    """

    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int | None = None,
        sliding_window: int | None = None, sinks: torch.Tensor | None = None, prefix: str = "",
        logits_soft_cap: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_heads = num_heads
        self.head_size = head_size
        self.num_kv_heads = num_kv_heads or num_heads
        self.logits_soft_cap = logits_soft_cap
        self.sliding_window = sliding_window
        self.layer_name = prefix
        self._sinks = (sinks,)  # in a tuple, so that it is registered once, as the owner's
        self.store_kvcache = StoreKVCache()
        sizes = (num_heads, head_size, scale, self.num_kv_heads)
        cap = {} if logits_soft_cap is None else {"logits_soft_cap": logits_soft_cap}  # replacements may have none
        self.prefill = FlashAttnPrefill(*sizes, sliding_window, **cap)
        self.decode = FlashAttnDecode(*sizes, sliding_window, **cap)

    def kv_cache_shapes(self, pages: int, page_size: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the layer's key cache and value cache."""
        shape = (pages, page_size, self.num_kv_heads, self.head_size)
        return shape, shape

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """One store, then one decode and one prefill call for what the batch has of each."""
        context = get_forward_context()
        batch = context.metadata
        cache = context.kv_cache(self.layer_name)
        query = query.view(-1, self.num_heads, self.head_size)
        key, value = (x.view(-1, self.num_kv_heads, self.head_size) for x in (key, value))
        self.store_kvcache(key, value, *cache, batch.slot_mapping)
        count, (sinks,), parts = batch.num_decodes, self._sinks, []
        if count:
            parts.append(
                self.decode(query[:count], *cache, batch.block_table, batch.seqused_k, batch.max_seqlen_k, sinks)
            )
        if batch.prefill is not None:
            new = batch.prefill
            keys, values = (known_rows(new, x[count:], y) for x, y in zip((key, value), cache, strict=True))
            parts.append(
                self.prefill(
                    query[count:], keys, values, new.cu_seqlens_q, new.cu_seqlens_k, new.max_seqlen_q,
                    new.max_seqlen_k, sinks,
                )
            )  # fmt: skip
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return y.reshape(-1, self.num_heads * self.head_size)


def known_rows(prefill: PrefillMetadata, new: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
    """Keys (or values) of the prefill sequences: the call's own, or gathered where the cache holds earlier ones."""
    return new if prefill.key_slots is None else cache.flatten(0, 1)[prefill.key_slots]
