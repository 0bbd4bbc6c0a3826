"""One input to draw, with what generators need for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

PADDED = 4
"""In draws with ties one token or sequence in this many is padding."""


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
    tokens: int = 0
    """Token count of the call."""
    seed: int = 0
    """Seed of the whole draw, for inputs that follow from something drawn in common."""
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Parameters of the module that the inputs are for, by name."""

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

    def with_some(self, values: torch.Tensor, *wanted: int) -> torch.Tensor:
        """Put `wanted` at random places, the first ones where there are too few places; a single value stays."""
        if values.numel() < 2:
            return values
        some = torch.tensor(wanted, device=self.device)[: values.numel()]
        values.view(-1).scatter_(0, self.distinct(some.numel(), values.numel()), some)
        return values

    def some(self, mask: torch.Tensor, first: int = 0) -> torch.Tensor:
        """Make sure, in place, that one place of a contiguous mask from `first` on is true and another false.

        Drawn without asking the mask, since that would wait for the device; one that is too short stays.
        """
        flat = mask.view(-1)
        if flat.numel() > max(1, first):
            true = self.integers(first, flat.numel(), (1,))
            flat[true] = True
            flat[(true + self.integers(1, flat.numel(), (1,))) % flat.numel()] = False
        return mask

    def padding(self) -> torch.Tensor:
        """Which tokens or sequences are padding: about one in PADDED, one for sure, but not each.

        The sure one is not the first, whose keys have one value only in draws with ties: an input may hold the same
        where padding goes by mistake.
        """
        return self.some(self.integers(0, PADDED) == 0, first=1)

    def cuts(self, total: int, parts: int) -> list[int]:
        """Lengths of `parts` pieces that sum to `total`, each at least 1 where that can be."""
        if total < parts:
            order = self.distinct(parts, parts).tolist()
            return [1 if place < total else 0 for place in order]
        inner = self.distinct(total - 1, total - 1)[: parts - 1].sort().values.tolist() if parts > 1 else []
        ends = [0, *(cut + 1 for cut in inner), total]
        return [end - start for start, end in pairwise(ends)]
