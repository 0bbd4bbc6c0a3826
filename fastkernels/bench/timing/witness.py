"""The supervisor's own clock over N and 2N calls, and what it says about the times that the processes report."""

import time
from collections.abc import Callable
from typing import Protocol

from fastkernels.results import Verdict

WITNESS_FROM_ROUNDS_S = 0.02
"""From this time per call on, the clock around the rounds themselves is exact enough and no calls are added."""
_TARGET_S = 0.002
"""Time that the N calls shall take, so that the jitter of a message (0.05 ms) is small against it."""
_MOST_CALLS = 200
_REPEATS = 3

CUDA_TOLERANCE = 0.25
"""A warm replayed call may take this much longer than the cold time reported for it (measured: 2 to 4 % jitter)."""
CUDA_GAP_S = 12e-6
"""On top of that: gaps between the nodes of a replayed graph, about 1 us a kernel, which kernel time leaves out."""
CPU_LONGER = 1.0
"""On a CPU, a call in a loop may take this much longer than reported, or the reported this much longer than it."""
CPU_GAP_S = 50e-6
"""On top of that, per call: the loop and the interpreter around it."""


class Times(Protocol):
    """What the check reads of a comparison."""

    @property
    def method(self) -> str:
        """Name of the timer."""

    @property
    def baseline_s(self) -> float:
        """Reported seconds a baseline call."""

    @property
    def candidate_s(self) -> float:
        """Reported seconds a candidate call."""

    @property
    def baseline_witness_s(self) -> float:
        """Witnessed seconds a baseline call."""

    @property
    def candidate_witness_s(self) -> float:
        """Witnessed seconds a candidate call."""


def witness_s(
    replay: Callable[[int], None], expected_s: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds a call from the outside: the time of 2N calls less that of N, over N, shortest of three of each.

    What is equal in both (messages, launch, synchronisation) cancels. Never negative.
    """
    calls = max(1, min(_MOST_CALLS, int(_TARGET_S / expected_s)))
    calls = calls // 8 * 8 or calls
    replay(calls)  # captures the graph
    once, twice = [], []
    for _ in range(_REPEATS):
        once.append(_timed(replay, calls, clock))
        twice.append(_timed(replay, 2 * calls, clock))
    return max(0.0, (min(twice) - min(once)) / calls)


def _timed(replay: Callable[[int], None], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    replay(calls)
    return clock() - start


def check_times(times: Times, floor_s: float) -> tuple[Verdict, str] | None:
    """Return the verdict on impossible or contradicted times of the candidate, or None for credible ones.

    floor_s: least time that the machine allows (see `roofline.floor_s`). TOO_FAST below it; TIMING_TAMPERED where
    the supervisor's clock saw calls take longer than the process reported (on a CPU: or much shorter).
    """
    reported, seen = times.candidate_s, times.candidate_witness_s
    if reported < floor_s:
        return Verdict.TOO_FAST, (
            f"{_us(reported)} a call is reported; moving the data or doing the operations takes {_us(floor_s)} at least"
        )
    if seen > _longest(times.method, reported):
        return Verdict.TIMING_TAMPERED, (
            f"{_us(reported)} a call is reported; by the supervisor's clock it takes {_us(seen)}"
        )
    if times.method == "wall" and reported > _longest(times.method, seen):
        return Verdict.TIMING_TAMPERED, (
            f"{_us(reported)} a call is reported; by the supervisor's clock it takes only {_us(seen)}"
        )
    if seen < floor_s and times.method == "wall":
        return Verdict.TOO_FAST, f"by the supervisor's clock a call takes {_us(seen)}; {_us(floor_s)} is the least"
    return None


def _longest(method: str, seconds: float) -> float:
    """Longest time by the other clock that agrees with this one."""
    if method == "wall":
        return seconds * (1 + CPU_LONGER) + CPU_GAP_S
    return seconds * (1 + CUDA_TOLERANCE) + CUDA_GAP_S


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us"
