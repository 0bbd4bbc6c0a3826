"""Lays the next tokens of several sequences out as one batch, and says where they lie in the paged cache."""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import accumulate

import torch

from fastkernels.engine.sequence import Chunk
from fastkernels.runtime.forward_context import AttentionMetadata, PrefillMetadata


@dataclass(frozen=True)
class Batch:
    """The inputs of one forward pass; chunks of one token come first."""

    input_ids: torch.Tensor
    """[T] int64."""
    positions: torch.Tensor
    """[T] int64."""
    metadata: AttentionMetadata
    """Where the tokens lie in the cache."""
    rows: list[range]
    """Rows of each chunk, in the order in which the chunks were given."""


def lay_out(chunks: Many[Chunk], page_size: int, device: torch.device) -> Batch:
    """The batch of these chunks, whose sequences have pages for all of their tokens up to the chunk's end."""
    order = sorted(range(len(chunks)), key=lambda index: chunks[index].count > 1)
    ordered = [chunks[index] for index in order]
    starts = [0, *accumulate(chunk.count for chunk in ordered)]
    rows = [range(0)] * len(chunks)
    for place, index in enumerate(order):
        rows[index] = range(starts[place], starts[place + 1])
    decodes = [chunk for chunk in ordered if chunk.count == 1]
    prefills = [chunk for chunk in ordered if chunk.count > 1]
    slots = [slot for chunk in ordered for slot in _slots(chunk, chunk.sequence.computed, page_size)]

    def tensor(values: list[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    metadata = AttentionMetadata(
        slot_mapping=tensor(slots),
        block_table=_block_table(decodes, device),
        seqused_k=tensor([chunk.end for chunk in decodes], torch.int32),
        num_decodes=len(decodes),
        max_seqlen_k=max((chunk.end for chunk in decodes), default=0),
        prefill=_prefill(prefills, page_size, device) if prefills else None,
    )
    return Batch(
        input_ids=tensor([t for c in ordered for t in c.sequence.tokens[c.sequence.computed : c.end]]),
        positions=tensor([p for c in ordered for p in range(c.sequence.computed, c.end)]),
        metadata=metadata,
        rows=rows,
    )


def _slots(chunk: Chunk, first: int, page_size: int) -> list[int]:
    """Slots of the sequence's tokens from `first` to the chunk's end."""
    pages = chunk.sequence.pages
    return [pages[token // page_size] * page_size + token % page_size for token in range(first, chunk.end)]


def _block_table(decodes: list[Chunk], device: torch.device) -> torch.Tensor:
    width = max((len(chunk.sequence.pages) for chunk in decodes), default=1)
    rows = [chunk.sequence.pages + [0] * (width - len(chunk.sequence.pages)) for chunk in decodes]
    return torch.tensor(rows, dtype=torch.int32, device=device).reshape(-1, width)


def _prefill(chunks: list[Chunk], page_size: int, device: torch.device) -> PrefillMetadata:
    new, keys = [chunk.count for chunk in chunks], [chunk.end for chunk in chunks]
    has_cached = any(chunk.sequence.computed for chunk in chunks)
    slots = [slot for chunk in chunks for slot in _slots(chunk, 0, page_size)] if has_cached else []
    return PrefillMetadata(
        cu_seqlens_q=torch.tensor([0, *accumulate(new)], dtype=torch.int32, device=device),
        cu_seqlens_k=torch.tensor([0, *accumulate(keys)], dtype=torch.int32, device=device),
        max_seqlen_q=max(new),
        max_seqlen_k=max(keys),
        key_slots=torch.tensor(slots, dtype=torch.int64, device=device) if has_cached else None,
    )
