"""Value generators: what each `values` name of a manifest draws, as a real batch would hold it."""

from collections.abc import Callable
from typing import Any

import torch

from fastkernels.bench.grade.batch import batch_positions, batch_slots, key_slots
from fastkernels.bench.grade.experts import block_experts, expert_choices, padded_rows, sorted_token_ids, topk_ids
from fastkernels.bench.grade.hard import MIXED, TRANSFORMS, mark_rows
from fastkernels.bench.grade.noise import fill_normal
from fastkernels.bench.grade.request import Request
from fastkernels.bench.grade.routed import route, router_logits
from fastkernels.bench.grade.weights import fill_correction

MAX_SEQUENCES = 3
"""A prefill batch of `positions` holds up to this many sequences."""

CACHE = "_cache"
"""How the names of inputs end that are pages of keys, values or latents, in which a call finds other tokens' rows."""

NEGATIVE = 2.0
"""By which a router's correction bias is lower in mixed draws: all scores are then below 0, the value that experts of
other groups must not be given."""


def normal(request: Request) -> torch.Tensor:
    """Normal with mean `mean` (0) and standard deviation `std` (1.0), then made hard as the draw says."""
    x = fill_normal(torch.empty(request.shape, dtype=request.dtype, device=request.device), request.generator)
    std = request.args.get("std", 1.0)
    x = x if std == 1.0 else x.mul_(std)
    x = x.add_(request.args["mean"]) if "mean" in request.args else x
    transform = TRANSFORMS.get(request.hard)
    x = x if transform is None else transform(x, request.generator, std)
    return mark_rows(x) if request.hard == "zeros" and request.name.endswith(CACHE) else x


def correction_bias(request: Request) -> torch.Tensor:
    """What a router adds to its scores for the choice (`weights.fill_correction`); NEGATIVE lower in mixed draws."""
    bias = fill_correction(torch.empty(request.shape, dtype=torch.float32, device=request.device), request.generator)
    return (bias.sub_(NEGATIVE) if request.hard in MIXED else bias).to(request.dtype)


def rank_part(request: Request) -> torch.Tensor:
    """Normal as above, scaled so that the sum over `ranks` such parts has a standard deviation of 1."""
    return normal(request).mul_(int(request.args["ranks"]) ** -0.5)


def routed(request: Request) -> torch.Tensor:
    """Normal as above, then moved so that the router with weight `gate` chooses `top_k` experts by a clear margin."""
    return route(normal(request), request)


def routing_weights(request: Request) -> torch.Tensor:
    """Weights of the chosen experts: over 0, those of a token sum to 1.

    In draws with zeros about half of them are 0, from 2 on at least one is and one is not.
    """
    normal = fill_normal(torch.empty(request.shape, dtype=torch.float32, device=request.device), request.generator)
    weights = torch.softmax(2.0 * normal, dim=-1)
    if request.hard == "zeros":
        weights.masked_fill_(request.some(normal <= 0.0), 0.0)
    return weights.to(request.dtype)


def literal(request: Request) -> Any:
    """The value itself."""
    return request.args["value"]


def positions(request: Request) -> torch.Tensor:
    """Decode: a random position below `max` for each token, from 2 on 0 and `max` - 1 among them.

    Prefill: runs of one to three sequences, of two at least in mixed draws, the first from 0, the others from a random
    position, as chunks of a longer prompt continue.
    """
    count, limit = request.shape[0], int(request.args["max"])
    if request.phase == "decode":
        return request.with_some(request.integers(0, limit), 0, limit - 1).to(request.dtype)
    fewest = 2 if request.hard in MIXED else 1
    sequences = min(count, int(request.integers(fewest, MAX_SEQUENCES + 1, (1,))))
    runs, start = [], 0
    for length in request.cuts(count, sequences):
        runs.append(torch.arange(start, start + length, device=request.device))
        start = int(request.integers(0, max(1, limit - count), (1,)))
    return (torch.cat(runs) % limit).to(request.dtype)


def token_ids(request: Request) -> torch.Tensor:
    """Ids below `vocab`; from 2 on the first and the last row of the table are among them. All equal in ties.

    `local`: rows that each of several ranks holds, of which rank 1 is graded. An id that stands alone, equal ones, and
    half of the others are its own; from 2 on its first row is looked up, from 3 on one of its own by chance, from 4 on
    the table's first, from 7 on the rows beside its first and last.
    """
    vocab = request.args["vocab"]
    first = request.args.get("local", 0)
    last = min(2 * first, vocab) - 1 if first else vocab - 1
    ids = request.integers(first, last + 1)
    ends = [0, last]
    if first and request.shape[0] > 1:
        own = int(ids[0])
        ids = torch.where(request.integers(0, 2) == 0, ids, request.integers(0, vocab))
        ends = [first, vocab - 1, own, 0, first - 1, last, min(last + 1, vocab - 1)]
    ids = request.with_some(ids, *ends)
    if request.hard == "ties":
        ids.fill_((first + last) // 2)
    return ids.to(request.dtype)


def slot_mapping(request: Request) -> torch.Tensor:
    """Different slots below `slots`; in mixed draws of 2 or more the first and the last are among them.

    In draws with ties about a quarter is padding (-1), as a padded CUDA graph passes, from 2 on at least one is. No
    token is there given one of the ends, where there are enough: who writes padding writes to one of them.
    """
    count, limit = request.shape[0], int(request.args["slots"])
    if request.hard == "ties":
        inner = request.distinct(count, limit - 2) + 1 if count <= limit - 2 else request.distinct(count, limit)
        slots = inner.masked_fill(request.padding(), -1)
    elif request.hard in MIXED and 2 <= count <= limit:
        inner = request.distinct(count - 2, limit - 2) + 1
        ends = torch.tensor([0, limit - 1], device=request.device)
        slots = torch.cat((ends, inner))[request.distinct(count, count)]
    else:
        slots = request.distinct(count, limit)
    return slots.to(request.dtype)


def block_table(request: Request) -> torch.Tensor:
    """Different pages below `pages` across the whole batch, in no order."""
    sequences, pages = request.shape
    return request.distinct(sequences * pages, request.args["pages"]).view(sequences, pages).to(request.dtype)


def seqused_k(request: Request) -> torch.Tensor:
    """Context lengths from 1 to `max`; one of them is `max` in normal draws.

    With `padded`, about a quarter is 0 in draws with ties, as where a CUDA graph is larger than the batch; from 2 on at
    least one is.
    """
    limit = request.args["max"]
    lengths = request.integers(1, limit + 1)
    if request.hard == "normal":
        lengths[request.integers(0, lengths.numel(), (1,))] = limit
    if request.hard == "ties" and request.args.get("padded"):
        lengths = lengths.masked_fill(request.padding(), 0)
    return lengths.to(request.dtype)


def cu_seqlens(request: Request) -> torch.Tensor:
    """Boundaries 0 .. total of `sequences` sequences of a token at least; of as many as there are tokens for.

    After another `cu_seqlens` of as many sequences and a lower total (queries before keys), each sequence is at least
    as long as there.
    """
    total, sequences = request.args["total"], min(request.args["sequences"], request.tokens)
    shorter = [0] * sequences
    for name, values in request.sources.items():
        if values == "cu_seqlens" and request.drawn[name].numel() == sequences + 1:
            shorter = request.drawn[name].diff().tolist()
    if sum(shorter) > total:
        raise ValueError(f"input {request.name}: {total} tokens in all, and {sum(shorter)} in the input before it")
    more = request.cuts(total - sum(shorter), sequences) if total > sum(shorter) else [0] * sequences
    lengths = torch.tensor([0, *(a + b for a, b in zip(shorter, more, strict=True))], device=request.device)
    return lengths.cumsum(0).to(request.dtype)


def longest(request: Request) -> int:
    """The length of the longest sequence between the boundaries `of`, as schedulers pass it."""
    return int(request.drawn[request.args["of"]].diff().max())


def same_as(request: Request) -> torch.Tensor:
    """The values of the input `of`, in memory of their own."""
    source: torch.Tensor = request.drawn[request.args["of"]]
    return source.clone()


GENERATORS: dict[str, Callable[[Request], Any]] = {
    function.__name__: function
    for function in (
        normal, correction_bias, rank_part, routed, routing_weights, literal, positions, token_ids, slot_mapping,
        block_table, seqused_k, cu_seqlens, longest, same_as, batch_slots, batch_positions, key_slots, router_logits,
        topk_ids, expert_choices, sorted_token_ids, block_experts, padded_rows,
    )
}  # fmt: skip
"""Every generator by its name in the manifest."""
