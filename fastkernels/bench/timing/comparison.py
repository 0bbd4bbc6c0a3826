"""What timing both sides gave, and what the supervisor's clock holds their processes to."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastkernels.bench.timing.statistics import short
from fastkernels.bench.timing.witness import Reading


@dataclass(frozen=True)
class Comparison:
    """What timing both sides gave; seconds. Field by field as in `results.Timing`."""

    method: str
    baseline_s: float
    candidate_s: float
    speedup: float
    speedup_low: float
    speedup_high: float
    runs: int
    rounds: int
    stopped: str
    disturbed_rounds: int
    baseline_eager_s: float
    candidate_eager_s: float
    baseline_seen: Reading
    candidate_seen: Reading
    baseline_samples_s: tuple[float, ...]
    candidate_samples_s: tuple[float, ...]
    baseline_clock: str
    candidate_clock: str
    candidate_not_captured: str | None
    wall_s: float

    @property
    def baseline_witness_s(self) -> float:
        """Seconds a baseline call by the supervisor's clock, at most."""
        return self.baseline_seen.most_s

    @property
    def candidate_witness_s(self) -> float:
        """The same of a candidate call."""
        return self.candidate_seen.most_s

    @property
    def baseline_claim_s(self) -> float:
        """See `claim_s`."""
        return claim_s(self.baseline_samples_s)

    @property
    def candidate_claim_s(self) -> float:
        """See `claim_s`."""
        return claim_s(self.candidate_samples_s)


def claim_s(samples_s: Sequence[float]) -> float:
    """What the supervisor's clock holds a process to on a CPU, seconds a call: a short call of its.

    Of that clock's readings the shortest counts, too. On a busy machine a median is several times as long, and a lie
    about it would be as much longer.
    """
    return short(samples_s)
