"""Value generators: what each `values` name of a manifest draws, as a real batch would hold it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from fastkernels.bench.grade.hard import TRANSFORMS
from fastkernels.bench.grade.noise import fill_normal

MAX_SEQUENCES = 3
"""A prefill batch of `positions` holds up to this many sequences."""

PADDED = 4
"""In draws with ties one slot in this many is padding."""


@dataclass(frozen=True)
class Request:
    """One input to draw."""

    name: str
    """Parameter name."""
    shape: tuple[int, ...]
    """Elements in each dimension; () for a literal."""
    dtype: torch.dtype | None
    """None for a literal."""
    args: Mapping[str, Any]
    """Arguments of the generator, expressions in `tokens` resolved."""
    phase: str
    """`decode` or `prefill`."""
    hard: str
    """Kind of the draw: `normal` or a key of hard.TRANSFORMS."""
    generator: torch.Generator
    """Seeded by draw and input; its device is where the tensor goes."""
    drawn: Mapping[str, Any]
    """Inputs drawn before this one."""
    sources: Mapping[str, str]
    """`values` name of each input drawn before this one."""

    @property
    def device(self) -> torch.device:
        """Where the tensor goes."""
        return self.generator.device

    def integers(self, low: int, high: int, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Uniform int64 in low .. high - 1, of the input's shape unless one is given."""
        shape = self.shape if shape is None else shape
        return torch.randint(low, max(high, low + 1), shape, generator=self.generator, device=self.device)

    def distinct(self, count: int, limit: int) -> torch.Tensor:
        """`count` different int64 below `limit`, in no order; ValueError where there are too few."""
        if count > limit:
            raise ValueError(f"input {self.name}: {count} different values below {limit} are asked for")
        return torch.randperm(limit, generator=self.generator, device=self.device)[:count]

    def with_ends(self, values: torch.Tensor, limit: int) -> torch.Tensor:
        """Put 0 and limit - 1 at two random places, where there are two."""
        if values.numel() < 2:
            return values
        ends = torch.tensor([0, limit - 1], device=self.device)
        values.view(-1).scatter_(0, self.distinct(2, values.numel()), ends)
        return values

    def cuts(self, total: int, parts: int) -> list[int]:
        """Lengths of `parts` pieces that sum to `total`, each at least 1 where that can be."""
        if total < parts:
            order = self.distinct(parts, parts).tolist()
            return [1 if place < total else 0 for place in order]
        inner = self.distinct(total - 1, total - 1)[: parts - 1].sort().values.tolist() if parts > 1 else []
        ends = [0, *(cut + 1 for cut in inner), total]
        return [end - start for start, end in pairwise(ends)]


def normal(request: Request) -> torch.Tensor:
    """Normal with mean 0 and standard deviation `std` (1.0), then made hard as the draw says."""
    x = fill_normal(torch.empty(request.shape, dtype=request.dtype, device=request.device), request.generator)
    std = request.args.get("std", 1.0)
    x = x if std == 1.0 else x.mul_(std)
    transform = TRANSFORMS.get(request.hard)
    return x if transform is None else transform(x, request.generator)


def literal(request: Request) -> Any:
    """The value itself."""
    return request.args["value"]


def positions(request: Request) -> torch.Tensor:
    """Decode: a random position below `max` for each token, from 2 on 0 and `max` - 1 among them.

    Prefill: runs of one to three sequences, the first from 0, the others from a random position, as chunks of a longer
    prompt continue.
    """
    count, limit = request.shape[0], int(request.args["max"])
    if request.phase == "decode":
        return request.with_ends(request.integers(0, limit), limit).to(request.dtype)
    sequences = min(count, 1 + int(request.integers(0, MAX_SEQUENCES, (1,))))
    runs, start = [], 0
    for length in request.cuts(count, sequences):
        runs.append(torch.arange(start, start + length, device=request.device))
        start = int(request.integers(0, max(1, limit - count), (1,)))
    return (torch.cat(runs) % limit).to(request.dtype)


def token_ids(request: Request) -> torch.Tensor:
    """Ids below `vocab`; from 2 on the first and the last row of the table are among them. All equal in ties."""
    vocab = request.args["vocab"]
    ids = request.with_ends(request.integers(0, vocab), vocab)
    if request.hard == "ties":
        ids.fill_(vocab // 2)
    return ids.to(request.dtype)


def slot_mapping(request: Request) -> torch.Tensor:
    """Different slots below `slots`; in draws with ties a quarter is padding (-1), as a padded CUDA graph passes."""
    slots = request.distinct(request.shape[0], request.args["slots"])
    if request.hard == "ties":
        slots = slots.masked_fill(request.integers(0, PADDED) == 0, -1)
    return slots.to(request.dtype)


def block_table(request: Request) -> torch.Tensor:
    """Different pages below `pages` across the whole batch, in no order."""
    sequences, pages = request.shape
    return request.distinct(sequences * pages, request.args["pages"]).view(sequences, pages).to(request.dtype)


def seqused_k(request: Request) -> torch.Tensor:
    """Context lengths from 1 to `max`; one of them is `max` in normal draws."""
    limit = request.args["max"]
    lengths = request.integers(1, limit + 1)
    if request.hard == "normal":
        lengths[request.integers(0, lengths.numel(), (1,))] = limit
    return lengths.to(request.dtype)


def cu_seqlens(request: Request) -> torch.Tensor:
    """Boundaries 0 .. total of `sequences` sequences, each of a token at least where there are enough.

    After another `cu_seqlens` of as many sequences and a lower total (queries before keys), each sequence is at least
    as long as there.
    """
    total, sequences = request.args["total"], request.args["sequences"]
    shorter = [0] * sequences
    for name, values in request.sources.items():
        if values == "cu_seqlens" and request.drawn[name].numel() == sequences + 1:
            shorter = request.drawn[name].diff().tolist()
    if sum(shorter) > total:
        raise ValueError(f"input {request.name}: {total} tokens in all, and {sum(shorter)} in the input before it")
    more = request.cuts(total - sum(shorter), sequences) if total > sum(shorter) else [0] * sequences
    lengths = torch.tensor([0, *(a + b for a, b in zip(shorter, more, strict=True))], device=request.device)
    return lengths.cumsum(0).to(request.dtype)


def same_as(request: Request) -> torch.Tensor:
    """The values of the input `of`, in memory of their own."""
    source: torch.Tensor = request.drawn[request.args["of"]]
    return source.clone()


GENERATORS: dict[str, Callable[[Request], Any]] = {
    function.__name__: function
    for function in (
        normal, literal, positions, token_ids, slot_mapping, block_table, seqused_k, cu_seqlens, same_as,
    )
}  # fmt: skip
"""Every generator by its name in the manifest."""
