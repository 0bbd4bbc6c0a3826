"""One manifest entry as a rule makes it for one model at one TP degree, before equal ones are merged."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from fastkernels.manifest.scenario import Dim
from fastkernels.manifest.shard import Shard

DECODE_TOKENS = (1, 8, 32, 128)
"""Batch sizes of decode: one token a sequence."""
PREFILL_TOKENS = (512, 2048, 8192)
"""Prompt lengths of prefill."""
ALL_TOKENS = DECODE_TOKENS + PREFILL_TOKENS

Input = dict[str, Any]


class Alias(str):
    """The name of a mapping that is written once, in `configs` or `contexts`, and referred to by YAML alias."""

    __slots__ = ()


@dataclass(frozen=True)
class Context:
    """A forward context under a name of its own."""

    name: str
    """Name in `contexts`."""
    values: Mapping[str, Input]
    """Its values in the order of drawing."""


@dataclass(frozen=True)
class Draft:
    """One entry."""

    op: str
    """Operator."""
    tokens: tuple[int, ...]
    """Token counts."""
    init: Mapping[str, Any]
    """Keyword arguments of the class."""
    inputs: Mapping[str, Input]
    """Arguments of `forward`."""
    variant: str = ""
    """Use within the model."""
    context: Context | None = None
    """What the forward context holds."""
    parameters: int = 0
    """Weights at TP 1; 0 where init tells."""


Rule = Callable[[Shard], Iterator[Draft]]
"""Yields an operator's entries for one model at one TP degree, none where the model has no use for it."""


def tensor(*shape: Dim, dtype: str, values: str = "normal", **args: Any) -> Input:
    """Return the manifest form of a tensor input."""
    spec: Input = {"shape": list(shape), "dtype": dtype, "values": values}
    return {**spec, "args": args} if args else spec


def sliced(spec: Input, row: int, *inner: int) -> Input:
    """Return the same input as a slice of rows of `row` elements.

    `inner`: strides of the dimensions between the first and the last, by default those of elements that lie together.
    """
    sizes = spec["shape"][1:]
    inner = inner or tuple(prod(sizes[place + 1 :]) for place in range(len(sizes) - 1))
    rest = {key: value for key, value in spec.items() if key != "shape"}
    return {"shape": spec["shape"], "strides": [row, *inner, 1], **rest}


def literal(value: Any) -> Input:
    """Return the manifest form of a plain argument."""
    return {"values": "literal", "args": {"value": value}}


def longest(boundaries: str) -> Input:
    """Return the manifest form of the length of the longest sequence between these boundaries."""
    return {"values": "longest", "args": {"of": boundaries}}


def times(factor: int, name: str = "tokens") -> str:
    """Return `8*tokens`, or `tokens` for a factor of 1."""
    return f"{factor}*{name}" if factor > 1 else name
