"""Refuses YAML whose aliases stand for more than can be read: a few lines may expand to billions of values."""

from collections.abc import Mapping
from typing import Any

LEAST, GROWTH = 1_000_000, 20
"""A document may stand for so many values, or for so many times those written where that is more. The shipped manifest
stands for 150 thousand, 5 times those written."""


class AliasError(ValueError):
    """Aliases that make a document too large."""


def check_aliases(document: Any) -> None:
    """Raise AliasError where the document is too large once every alias is replaced by its value.

    A list or mapping within itself counts once: it is none of the values that a manifest may have.
    """
    sizes: dict[int, int] = {}
    found = _size(document, sizes)
    most = max(LEAST, GROWTH * len(sizes))
    if found > most:
        raise AliasError(f"its aliases stand for {found:.3g} values; a manifest of this size may have {most:,}")


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Values in `value`, aliases replaced; `sizes` has those of every list and mapping, 1 of one that is being read."""
    if not isinstance(value, Mapping | list):
        return 1
    known = sizes.get(id(value))
    if known is None:
        sizes[id(value)] = 1
        known = 1 + sum(_size(item, sizes) for item in (value.values() if isinstance(value, Mapping) else value))
        sizes[id(value)] = known
    return known
