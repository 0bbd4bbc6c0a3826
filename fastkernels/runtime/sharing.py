"""Modules that a model's layers have in common, such as one table of rotary angles for all of them."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_shared: dict[Hashable, Any] | None = None


@contextmanager
def sharing() -> Iterator[None]:
    """Within the block, which builds one model, `shared` returns one object a key; an inner block changes nothing."""
    global _shared
    before = _shared
    _shared = {} if before is None else before
    try:
        yield
    finally:
        _shared = before


def shared(key: Hashable, build: Callable[[], T]) -> T:
    """What `build` returned for this key within the block, a new one outside of any."""
    if _shared is None:
        return build()
    if key not in _shared:
        _shared[key] = build()
    found: T = _shared[key]
    return found
