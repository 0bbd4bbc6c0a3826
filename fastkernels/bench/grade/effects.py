"""Effects of a call: which inputs were changed, where, and which memory is shared."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade.tree import tensors

INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as integers, so that NaN payloads and the sign of zero count."""
    return tensor.view(INTEGER_OF_SIZE[tensor.element_size()])


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """0-d bool tensor: whether any bit differs (shapes and dtypes are equal)."""
    return (bits(before) != bits(after)).any()


def stray_rows(before: torch.Tensor, baseline: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """Mask of the rows (last dimension) that `got` has otherwise than `before` and the baseline left alone."""
    if before.dim() == 0:
        before, baseline, got = (t.view(1) for t in (before, baseline, got))
    differs = got != before
    if before.is_floating_point():
        differs &= ~(got.isnan() & before.isnan())
    return differs.any(dim=-1) & ~(bits(before) != bits(baseline)).any(dim=-1)


def copies(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs in memory of their own, strides kept."""
    return {name: _copy(value) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def donated(module: nn.Module, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of inputs that an implementation may overwrite: what `donates` says, in a block or layer as in an Op."""
    says = getattr(module, "donates", None)
    return tuple(says(inputs)) if callable(says) else ()


def shared_memory(module: nn.Module, inputs: Mapping[str, Any], outputs: Any) -> set[tuple[int, str]]:
    """(leaf, what) for the baseline's own outputs, in the form of `CallOutcome.aliases`; `previous call` left out."""
    places = [(f"input {name}", value) for name, value in inputs.items() if isinstance(value, torch.Tensor)]
    places += [(f"weight {name}", tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())]
    found = list(tensors(outputs).values())
    pairs = {(i, what) for i, leaf in enumerate(found) for what, place in places if _overlap(leaf, place)}
    return pairs | {(i, f"output {j}") for i, leaf in enumerate(found) for j in range(i) if _overlap(leaf, found[j])}


def forbidden(aliases: Iterable[Any], allowed: set[tuple[int, str]], donated: Iterable[str]) -> tuple[int, str] | None:
    """The first alias that neither the baseline has nor a donated input explains, or None.

    An output that lies in an input or a weight rightly is there again in the next call: `previous call` says no more.
    """
    given = {f"input {name}" for name in donated}
    right = {(leaf, what) for leaf, what in aliases if what in given or (leaf, what) in allowed}
    fixed = {leaf for leaf, what in right if not what.startswith("output")}
    for leaf, what in aliases:
        if (leaf, what) not in right and not (what == "previous call" and leaf in fixed):
            return leaf, what
    return None


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.device != b.device or not a.numel() or not b.numel():
        return False
    (a_start, a_end), (b_start, b_end) = _span(a), _span(b)
    return a_start < b_end and b_start < a_end


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    extent = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + extent * tensor.element_size()
