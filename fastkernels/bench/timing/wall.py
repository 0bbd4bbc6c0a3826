"""CPU time of calls: the wall clock around each."""

import math
import time
from statistics import median

from fastkernels.bench.timing.timer import Call

SETTLE_BELOW_S = 1e-3
"""A first call under this only settles: after a pause it finds cold caches and a sleeping thread pool."""
SAMPLE_S = 0.5e-3
"""Calls shorter than this are grouped so that one sample lasts about as long: the machine's noise is not that of one
moment then."""
MOST_IN_SAMPLE = 50
"""Calls in one sample, at most."""


class WallTimer:
    """Reads `perf_counter` before and after every call; caches are as cold as the rotation of inputs makes them."""

    def measure(self, call: Call, calls: int) -> list[float]:
        """`calls` samples in seconds, each a call's or the median of a group of short ones."""
        first = self.eager(call, 1)
        if first[0] >= SETTLE_BELOW_S:
            return first + _timed(call, 1, calls)
        grouped = calls_in_sample(first[0])
        seconds = _timed(call, 1, 1 + calls * grouped)
        return [median(seconds[start : start + grouped]) for start in range(0, len(seconds), grouped)]

    def eager(self, call: Call, calls: int) -> list[float]:
        """Seconds of each of `calls` calls."""
        return _timed(call, 0, calls)

    def replay(self, call: Call, calls: int) -> None:
        """Run exactly `calls` calls and nothing else: another process's clock times this."""
        for index in range(calls):
            call(index)


def calls_in_sample(call_s: float) -> int:
    """Calls that are grouped for one sample where one takes so many seconds."""
    return max(1, min(MOST_IN_SAMPLE, math.ceil(SAMPLE_S / max(call_s, 1e-7))))


def _timed(call: Call, first: int, end: int) -> list[float]:
    clock, seconds = time.perf_counter, []
    for index in range(first, end):
        start = clock()
        call(index)
        seconds.append(clock() - start)
    return seconds
