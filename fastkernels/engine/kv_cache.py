"""The paged KV cache: memory of every layer, and which pages are free."""

from typing import Any

import torch
from torch import nn

from fastkernels.engine.sequence import Sequence
from fastkernels.errors import ModelError
from fastkernels.runtime.forward_context import KVCache

PAGE_SIZE = 16
"""Tokens in a page, as in vLLM."""


class OutOfPagesError(ModelError):
    """No page of the KV cache is free."""


class PagePool:
    """Hands out the pages of a cache; a page belongs to one sequence at a time."""

    def __init__(self, pages: int, page_size: int = PAGE_SIZE) -> None:
        self.pages = pages
        self.page_size = page_size
        self._free = list(range(pages - 1, -1, -1))

    @property
    def free_pages(self) -> int:
        """Pages that belong to no sequence."""
        return len(self._free)

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Give the sequence pages for its first `tokens` tokens; OutOfPagesError where too few are free."""
        needed = -(-tokens // self.page_size) - len(sequence.pages)
        if needed > len(self._free):
            raise OutOfPagesError(
                f"the KV cache has {len(self._free)} of {self.pages} pages free, {needed} more are needed for "
                f"{tokens} tokens"
            )
        sequence.pages += [self._free.pop() for _ in range(needed)]

    def release(self, sequence: Sequence) -> None:
        """Take the sequence's pages back; it has to be computed anew afterwards."""
        self._free += reversed(sequence.pages)
        sequence.pages, sequence.computed = [], 0


def allocate_kv_caches(
    model: nn.Module, pages: int, page_size: int, dtype: torch.dtype, device: torch.device
) -> dict[str, KVCache]:
    """Caches of zeros for every layer of the model that has `kv_cache_shapes`, by its `layer_name`."""
    caches: dict[str, KVCache] = {}
    for layer in cached_layers(model):
        if layer.layer_name in caches:
            raise ModelError(f"two attention layers are named {layer.layer_name!r}; `prefix` has to tell them apart")
        shapes = layer.kv_cache_shapes(pages, page_size)
        caches[layer.layer_name] = tuple(torch.zeros(shape, dtype=dtype, device=device) for shape in shapes)
    if not caches:
        raise ModelError(f"{type(model).__name__} has no attention layer with `kv_cache_shapes`")
    return caches


def cached_layers(model: nn.Module) -> list[Any]:
    """The layers that keep a KV cache: those with `layer_name` and `kv_cache_shapes`."""
    return [layer for layer in model.modules() if hasattr(layer, "kv_cache_shapes")]
