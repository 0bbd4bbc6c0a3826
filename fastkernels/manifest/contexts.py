"""The batches that blocks with attention are graded on, as the forward contexts that describe them."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastkernels.manifest.config import Layer
from fastkernels.manifest.drafts import DECODE_TOKENS, PREFILL_TOKENS, Context, Input, literal, tensor
from fastkernels.manifest.scenario import Dim
from fastkernels.manifest.shard import Shard

PAGE_SIZE = 16
"""Tokens in a page of the KV cache, vLLM's default block size."""
SPARE_PAGES = 8
"""Pages of the decode cache that no sequence uses."""
DECODE_KEYS = 1024
"""Longest context of a decoding sequence, at least; with a window twice as many keys as it holds."""
CACHED_TOKENS = 1024
"""Tokens that precede a prompt's chunk."""
MIXED_DECODES = 8
"""Decoding sequences beside the chunk in the `mixed` batch."""
PREFILL_PAGES = (max(PREFILL_TOKENS) + CACHED_TOKENS) // PAGE_SIZE + 64
"""Pages of the cache of a batch with prefill, for its own tokens and some to spare."""
SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True)
class Batch:
    """One kind of batch."""

    variant: str
    """Its name in addresses; empty for decode alone and for prefill alone."""
    tokens: tuple[int, ...]
    """Token counts."""
    rows: Dim
    """Tokens of the call: those, and the decoding sequences beside them."""
    context: Context
    """What describes it."""


def batches(shard: Shard, layer: Layer) -> Iterator[Batch]:
    """Yield what a layer meets in serving: decode, one prompt, and a chunk of a prompt beside decoding sequences.

    No position lies past the model's last; prompts that are longer are left out.
    """
    dtype, most = shard.config.dtype, shard.config.max_position_embeddings
    keys = max(PAGE_SIZE, min(max(DECODE_KEYS, 2 * layer.window), most) // PAGE_SIZE * PAGE_SIZE)
    cached = min(CACHED_TOKENS, most // 2 // PAGE_SIZE * PAGE_SIZE)
    # one token more than listed is drawn too
    whole = tuple(count for count in PREFILL_TOKENS if count < most)
    chunks = tuple(count for count in PREFILL_TOKENS[:-1] if cached + count < most)
    caches = _caches(shard)
    shape = "x".join(map(str, next(iter(caches.values()))))
    name = f"{shape}_{SHORT[dtype]}"
    pages = keys // PAGE_SIZE
    total = f"{pages}*tokens+{SPARE_PAGES}"
    values = {**_decodes("tokens", keys, total), **_slots("tokens"), **_tensors(caches, total, dtype)}
    yield Batch("", DECODE_TOKENS, "tokens", Context(f"decode{keys}_{name}", values))
    if whole:
        values = {**_prompt(0), **_slots("tokens", pages=PREFILL_PAGES), **_tensors(caches, PREFILL_PAGES, dtype)}
        yield Batch("", whole, "tokens", Context(f"prefill_{name}", values))
    if not cached or not chunks:
        return
    first, rows = MIXED_DECODES * pages, f"tokens+{MIXED_DECODES}"
    last = first + PREFILL_PAGES
    values = {**_decodes(MIXED_DECODES, keys, first), **_prompt(cached, first, last), **_slots(rows),
              **_tensors(caches, last, dtype)}  # fmt: skip
    after = f"_after{cached}" if cached < CACHED_TOKENS else ""
    yield Batch("mixed", chunks, rows, Context(f"mixed{keys}{after}_{name}", values))


def positions(batch: Batch) -> Input:
    """Return the positions of a batch's tokens."""
    return tensor(batch.rows, dtype="int64", values="batch_positions")


def _caches(shard: Shard) -> dict[str, tuple[int, ...]]:
    """Shape of one slot of each cache."""
    latent = shard.config.latent
    if latent is not None:
        return {"latent_cache": (latent.kv_lora_rank + latent.qk_rope_head_dim,)}
    heads = (shard.kv_heads, shard.config.head_dim)
    return {"key_cache": heads, "value_cache": heads}


def _decodes(sequences: Dim, keys: int, pages: Dim) -> dict[str, Input]:
    return {
        "block_table": tensor(sequences, keys // PAGE_SIZE, dtype="int32", values="block_table", pages=pages),
        "seqused_k": tensor(sequences, dtype="int32", values="seqused_k", max=keys, padded=True),
        "num_decodes": literal(sequences),
        "max_seqlen_k": literal(keys),
    }


def _prompt(cached: int, first: int = 0, last: int = 0) -> dict[str, Input]:
    """One prompt's tokens, after `cached` ones in pages `first` to `last`."""
    keys = f"tokens+{cached}" if cached else "tokens"
    ends = tensor(2, dtype="int32", values="cu_seqlens", total="tokens", sequences=1)
    found = {
        "cu_seqlens_q": ends,
        "cu_seqlens_k": {**ends, "args": {"total": keys, "sequences": 1}},
        "max_seqlen_q": literal("tokens"),
        "prefill_max_seqlen_k": literal(keys),
    }
    if cached:
        found["key_slots"] = tensor(
            keys, dtype="int64", values="key_slots", page_size=PAGE_SIZE, pages=last, first=first
        )
    return found


def _slots(rows: Dim, **pages: int) -> dict[str, Input]:
    return {"slot_mapping": tensor(rows, dtype="int64", values="batch_slots", page_size=PAGE_SIZE, **pages)}


def _tensors(caches: dict[str, tuple[int, ...]], pages: Dim, dtype: str) -> dict[str, Input]:
    return {name: tensor(pages, PAGE_SIZE, *slot, dtype=dtype) for name, slot in caches.items()}
