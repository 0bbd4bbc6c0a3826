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


INSTRUMENTS = {
    "cupti": Instrument("cupti", resolution_s=32e-9, process_spread_s=30e-9, process_spread=0.005),
    "cuda_graph": Instrument("cuda_graph", resolution_s=32e-9, process_spread_s=100e-9, process_spread=0.005),
    "wall": Instrument("wall", resolution_s=100e-9, process_spread_s=200e-9, process_spread=0.01),
}
"""Every instrument by name, for two processes that each have inputs and weights in memory of their own."""

SAME_MEMORY = {
    "cupti": Instrument("cupti", resolution_s=32e-9, process_spread_s=25e-9, process_spread=0.002),
}
"""Those that differ where both processes work on the same physical memory: its placement then cancels."""


def instrument_for(method: str, same_memory: bool) -> Instrument:
    """The instrument of both sides of a comparison."""
    return SAME_MEMORY.get(method, INSTRUMENTS[method]) if same_memory else INSTRUMENTS[method]
