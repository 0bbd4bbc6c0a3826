"""What every timing instrument offers to the worker process that owns it."""

from collections.abc import Callable
from typing import Protocol

REPLAY_UNIT = 8
"""Calls in one graph of `replay` on CUDA."""

Call = Callable[[int], object]
"""Runs the graded operator on input set `i`; the caller rotates the sets, the instrument counts i upwards from 0."""


class Timer(Protocol):
    """An instrument that reads the time of calls on one device."""

    name: str
    """`cupti`, `cuda_graph` or `wall`: a key of `instruments.INSTRUMENTS`."""
    reason: str
    """Why this instrument was taken and not a better one; empty for the first choice."""

    def measure(self, call: Call, calls: int) -> list[float]:
        """Seconds of device time (CPU: wall clock) of `calls` calls, caches flushed before each where that is set.

        Gives between 1 and `calls` samples. A sample may stand for several calls (the mean of those in one CUDA graph,
        the median of a group of short ones on a CPU), and more calls than `calls` may run, to settle clocks and caches.
        """

    def eager(self, call: Call, calls: int) -> list[float]:
        """Wall seconds of each of `calls` calls, from before the launch until the device is done."""

    def replay(self, call: Call, calls: int) -> str | None:
        """Run exactly `calls` calls, on CUDA as a replayed graph, and return when they are done.

        Returns why they could not be captured and were launched one by one; None where they were, and on a CPU.
        Another process's clock times this, so it does nothing else; what it prepares it keeps until `reset`.
        """

    def reset(self) -> None:
        """Let go of what `replay` and `measure` kept for the last call; for the end of a scenario."""
