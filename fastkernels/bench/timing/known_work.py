"""A piece of work whose time is known: it shows load that the kernel does not count, such as a host's other guests."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

STEPS = 1500
"""Steps of the work: 0.1 ms on a slow core."""
READINGS = 3
"""Times that it is done; the median counts."""


def work() -> None:
    """Arithmetic within one core: no memory, no other thread."""
    value = 1
    for _ in range(STEPS):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF


@dataclass
class KnownWork:
    """One process's."""

    do: Callable[[], None] = work
    clock: Callable[[], float] = time.perf_counter
    shortest_s: float = float("inf")
    """The least that it ever took here: its usual time, nothing is ever faster for want of quiet."""

    def slowdown(self) -> float:
        """Do it now; times as long as ever that it took."""
        taken = []
        for _ in range(READINGS):
            started = self.clock()
            self.do()
            taken.append(self.clock() - started)
        self.shortest_s = min(self.shortest_s, *taken)
        return median(taken) / self.shortest_s
