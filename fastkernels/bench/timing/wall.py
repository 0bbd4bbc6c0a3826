"""CPU time of calls: the wall clock around each."""

import time

from fastkernels.bench.timing.timer import Call

SETTLE_BELOW_S = 1e-3
"""A first call under this is repeated untimed: after a pause it finds cold caches and a sleeping thread pool."""


class WallTimer:
    """Reads `perf_counter` before and after every call; caches are as cold as the rotation of inputs makes them."""

    name = "wall"

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def measure(self, call: Call, calls: int) -> list[float]:
        """Seconds of each of `calls` calls."""
        first = self.eager(call, 1)
        if first[0] >= SETTLE_BELOW_S:
            return first + _timed(call, 1, calls)
        return _timed(call, 1, calls + 1)

    def eager(self, call: Call, calls: int) -> list[float]:
        """Seconds of each of `calls` calls."""
        return _timed(call, 0, calls)

    def replay(self, call: Call, calls: int) -> str | None:
        """Run `calls` calls."""
        for index in range(calls):
            call(index)
        return None

    def reset(self) -> None:
        """Nothing is kept."""


def _timed(call: Call, first: int, end: int) -> list[float]:
    clock, seconds = time.perf_counter, []
    for index in range(first, end):
        start = clock()
        call(index)
        seconds.append(clock() - start)
    return seconds
