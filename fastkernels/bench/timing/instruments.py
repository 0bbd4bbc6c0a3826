"""What each instrument can tell apart: the part of an interval that no number of rounds makes narrower."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """Resolution and reproducibility of one way to read time; figures and their origin in docs/timing.md."""

    name: str
    """Name of the timer."""
    resolution_s: float
    """Smallest step of its clock, seconds."""
    process_spread_s: float
    """Standard deviation between processes of the same kernel's time, the part that does not grow with it, seconds."""
    process_spread: float
    """The same, the part that grows with the time, as a fraction of it."""

    def relative_spread(self, seconds: float) -> float:
        """Standard deviation of one side's time that rounds within one pair of processes cannot show, as a fraction."""
        fixed = math.hypot(self.process_spread_s, self.resolution_s / math.sqrt(12.0))
        return math.hypot(fixed / seconds, self.process_spread)


WALL = Instrument("wall", resolution_s=100e-9, process_spread_s=200e-9, process_spread=0.01)
"""The wall clock around each call on a CPU, two processes that each have inputs and weights in memory of their own."""
