"""Caches whose pages lie past 2^31 elements, as those of a GPU do, without the memory that they would take.

The judge knows a cache of few pages. The candidate is given the same pages as some of a cache so large that offsets
need 64 bits: on a CPU the arena's file has holes where nobody writes; a GPU has the memory, or the cache stays small.
Page tables and slots are told in pages of the large cache, and read back as those of the small one.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from fastkernels.bench.isolate.bits import same_bits
from fastkernels.manifest.context import PREFIX

ELEMENTS = 2**31
"""Offsets of this many elements do not fit into 32 bits with a sign."""

MOST_SPARE = 64
"""Further pages behind those that are used."""

FREE_FACTOR = 4
"""A GPU must have so many times the memory free."""

SLOTS = ("slot_mapping", "key_slots")
"""Inputs that name rows of a cache; `block_table` names its pages."""


@dataclass(frozen=True)
class Far:
    """Where the pages of small caches lie in large ones."""

    pages: torch.Tensor
    """int64 [small pages]: the page of the large cache that each is."""
    total: int
    """Pages of the large cache."""
    page_size: int
    """Tokens in a page."""

    def spread(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The inputs as the candidate is given them; large caches on the `meta` device."""
        return {name: self._spread(name.removeprefix(PREFIX), value) for name, value in inputs.items()}

    def gathered(
        self, after: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """What the candidate left, with small caches, and numbers of the small pages where it changed none."""
        found = {}
        for name, value in after.items():
            if name.endswith("_cache"):
                found[name] = value.index_select(0, self.pages)
            else:
                given = self._spread(name.removeprefix(PREFIX), before[name])
                found[name] = before[name] if same_bits(given, value) else value
        return found

    def _spread(self, name: str, value: torch.Tensor) -> torch.Tensor:
        if name.endswith("_cache"):
            return torch.empty((self.total, *value.shape[1:]), dtype=value.dtype, device="meta")
        if name == "block_table":
            return self.pages[value.long()].to(value.dtype)
        if name in SLOTS:
            row = value.long()
            return torch.where(row < 0, row, self.pages[row // self.page_size] * self.page_size
                               + row % self.page_size).to(value.dtype)
        return value


def far_pages(inputs: Mapping[str, Any], seed: int) -> Far | None:
    """Where to put the pages of these inputs' caches; None where a GPU lacks the memory."""
    caches = [value for name, value in inputs.items() if name.endswith("_cache")]
    rng, small = random.Random(f"{seed}:far"), caches[0].shape[0]
    near = -(-ELEMENTS // min(prod(cache.shape[1:]) for cache in caches))
    total = near + small + rng.randint(1, MOST_SPARE)
    size = sum(total * prod(cache.shape[1:]) * cache.element_size() for cache in caches)
    device = caches[0].device
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] < FREE_FACTOR * size:
        return None
    inner = rng.sample(range(near, total - 1), small - 2)
    pages = torch.tensor([0, *inner, total - 1], device=device)
    return Far(pages, total, caches[0].shape[1])
