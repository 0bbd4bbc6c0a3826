"""Waits for a call for a limited time, whatever it does."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call_within(limit_s: float, call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises; TimeoutError after `limit_s` seconds.

    The call runs in a thread of its own. One that does not come back is left behind; the thread does not keep the
    process from ending.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="fastkernels-tracking", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no end after {limit_s:g} s")
    return results[0]
