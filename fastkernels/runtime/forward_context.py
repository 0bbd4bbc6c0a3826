"""What attention needs beside its arguments: the paged KV caches and where the batch's tokens lie in them.

As in vLLM, a model runner sets the context around a call and attention layers read it; operators of level 1 never do.
The context lies in a plain variable of this module, since torch.compile can read that (a ContextVar it cannot trace).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

ANY_LAYER = "*"
"""Name in `kv_caches` that answers for every layer, where only one is called."""


@dataclass(frozen=True)
class PrefillMetadata:
    """The sequences of a batch that bring several tokens, in order, after those that bring one."""

    cu_seqlens_q: torch.Tensor
    """[P + 1] int32, from 0 to the number of prefill tokens: where each sequence's new tokens begin."""
    cu_seqlens_k: torch.Tensor
    """[P + 1] int32, from 0 to the number of keys: where each sequence's keys begin, cached ones included."""
    max_seqlen_q: int
    """At least every number of new tokens."""
    max_seqlen_k: int
    """At least every number of keys."""
    key_slots: torch.Tensor | None = None
    """[S] int64, slots of all keys in the order of cu_seqlens_k where any lies in the cache already; None where every
    key is one of this call's tokens."""


@dataclass(frozen=True)
class AttentionMetadata:
    """Where one batch lies in the paged caches: `num_decodes` sequences of one new token each come first."""

    slot_mapping: torch.Tensor
    """[T] int64, slot (page * page_size + offset) that each token's key and value go to."""
    block_table: torch.Tensor
    """[num_decodes, pages] int32, pages of the decoding sequences."""
    seqused_k: torch.Tensor
    """[num_decodes] int32, tokens of the decoding sequences, the new one included."""
    num_decodes: int
    """Sequences that bring one token."""
    max_seqlen_k: int
    """At least every seqused_k; 0 without decodes."""
    prefill: PrefillMetadata | None = None
    """The other sequences; None where all decode."""


KVCache = tuple[torch.Tensor, ...]
"""(key, value), each [pages, page_size, kv_heads, head_size]; latent attention: (latent,) [pages, page_size, width]."""


@dataclass(frozen=True)
class ForwardContext:
    """Everything that attention layers read in one forward pass."""

    metadata: AttentionMetadata
    """Where the batch lies."""
    kv_caches: Mapping[str, KVCache]
    """Caches by layer name (`model.layers.0.self_attn.attn`), or under ANY_LAYER."""

    def kv_cache(self, layer: str) -> KVCache:
        """The caches of one layer; KeyError that names the layers there are."""
        cache = self.kv_caches.get(layer)
        if cache is None:
            cache = self.kv_caches.get(ANY_LAYER)
        if cache is None:
            raise KeyError(f"no KV cache for layer {layer!r}; there are {', '.join(self.kv_caches) or 'none'}")
        return cache


_current: ForwardContext | None = None


def get_forward_context() -> ForwardContext:
    """The context of the running forward pass; RuntimeError outside of one."""
    if _current is None:
        raise RuntimeError("attention was called outside of set_forward_context(...), which tells it where the KV "
                           "cache is")
    return _current


@contextmanager
def set_forward_context(context: ForwardContext) -> Iterator[None]:
    """Make `context` the one that attention layers read within the block; blocks nest."""
    global _current
    before, _current = _current, context
    try:
        yield
    finally:
        _current = before
