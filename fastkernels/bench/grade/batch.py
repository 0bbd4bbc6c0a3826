"""Slots and positions of a batch, as they follow from the lengths and pages that its forward context holds.

The sequences of `context.block_table` bring one token each and come first, then those of `context.cu_seqlens_q` with
all of theirs. No two tokens share a slot.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

from fastkernels.bench.grade.request import Request
from fastkernels.manifest.context import PREFIX


def key_slots(request: Request) -> torch.Tensor:
    """Slots of every key of the prefill sequences in order: each sequence fills pages of its own, from their start.

    The pages are different ones from `first` (0) to below `pages`, in no order.
    """
    ends = _drawn(request, "cu_seqlens_k").tolist()
    return _fill_pages(request, ends).to(request.dtype)


def batch_slots(request: Request) -> torch.Tensor:
    """The slot that each token's key and value go to: the place of the last keys of its sequence.

    -1 for a sequence of length 0, which is padding. Prefill sequences without key_slots in the context have no keys
    but their tokens, and fill pages as key_slots does.
    """
    parts = []
    if _holds(request, "seqused_k"):
        parts.append(_decode_slots(request))
    if _holds(request, "cu_seqlens_q"):
        if _holds(request, "key_slots"):
            slots = _drawn(request, "key_slots")
            parts.append(torch.cat([slots[keys - new:keys] for new, keys in _new_and_ends(request)]))
        else:
            parts.append(_fill_pages(request, _drawn(request, "cu_seqlens_q").tolist()))
    return torch.cat(parts).to(request.dtype)


def batch_positions(request: Request) -> torch.Tensor:
    """The position of each token in its sequence; 0 for padding."""
    parts = []
    if _holds(request, "seqused_k"):
        parts.append((_drawn(request, "seqused_k").long() - 1).clamp_(min=0))
    if _holds(request, "cu_seqlens_q"):
        lengths = _drawn(request, "cu_seqlens_k").diff().tolist()
        parts += [torch.arange(keys - new, keys, device=request.device)
                  for (new, _), keys in zip(_new_and_ends(request), lengths, strict=True)]
    return torch.cat(parts).to(request.dtype)


def last_tokens(request: Request) -> torch.Tensor:
    """The row of each sequence's last token, which logits are asked of; none for a prompt without tokens."""
    count = len(_drawn(request, "seqused_k")) if _holds(request, "seqused_k") else 0
    rows = torch.arange(count, device=request.device)
    if _holds(request, "cu_seqlens_q"):
        ends = _drawn(request, "cu_seqlens_q").long()
        rows = torch.cat([rows, count + ends[1:][ends.diff() > 0] - 1])
    return rows.to(request.dtype)


def _decode_slots(request: Request) -> torch.Tensor:
    used, table = _drawn(request, "seqused_k").long(), _drawn(request, "block_table").long()
    page_size = int(request.args["page_size"])
    last = (used - 1).clamp_(min=0)
    pages = table.gather(1, (last // page_size).unsqueeze(1)).squeeze(1)
    return (pages * page_size + last % page_size).masked_fill_(used == 0, -1)


def _fill_pages(request: Request, ends: Sequence[int]) -> torch.Tensor:
    """Slots of sequences between these boundaries, from the start of pages of their own."""
    page_size, first = int(request.args["page_size"]), int(request.args.get("first", 0))
    lengths = [end - start for start, end in pairwise(ends)]
    needed = [-(-length // page_size) for length in lengths]
    pages = request.distinct(sum(needed), int(request.args["pages"]) - first) + first
    slots = (pages.unsqueeze(1) * page_size + torch.arange(page_size, device=request.device)).flatten()
    starts = [sum(needed[:i]) * page_size for i in range(len(lengths))]
    pieces = [slots[start:start + length] for start, length in zip(starts, lengths, strict=True)]
    return torch.cat(pieces) if pieces else slots[:0]


def _new_and_ends(request: Request) -> list[tuple[int, int]]:
    """(new tokens, end of its keys) of each prefill sequence."""
    new, ends = _drawn(request, "cu_seqlens_q").diff().tolist(), _drawn(request, "cu_seqlens_k").tolist()[1:]
    return list(zip(new, ends, strict=True))


def _holds(request: Request, name: str) -> bool:
    return PREFIX + name in request.drawn


def _drawn(request: Request, name: str) -> torch.Tensor:
    tensor: torch.Tensor = request.drawn[PREFIX + name]
    return tensor
