"""What rounds of timed sections say about a call on either side (docs/timing.md)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fastkernels.bench.timing.comparison import Comparison
from fastkernels.bench.timing.schedule import MIN_ROUNDS
from fastkernels.bench.timing.statistics import Interval, location_interval, speedup_interval
from fastkernels.bench.timing.witness import Reading

METHOD = "sections"

MOST_ROUNDS = 24
TIGHT = 0.005
"""Half-width of the interval from the rounds at which no more are run, where what they do not show is not more."""

SECTION_SPREAD_S, SPREAD = 35e-6, 0.002
"""Standard deviation of a side's sections between pairs of processes: so much, and this part of the time."""

STEP_S = 0.15e-6
"""What a call in a graph takes beyond its kernel, as CUPTI records kernels: left out on both sides alike."""

LEAST_S = 50e-9
"""Shortest time that a reading is taken for: noise alone can make one nothing."""

MOST_EXCESS_S, MOST_EXCESS = 20e-6, 0.01
"""By so much, and this part of a section, the candidate's may take longer than the baseline's to wake, or for its
outputs to be there after it has said so; what is more counts as its calls' time."""

MOST_EARLY_S, MOST_EARLY, EAGER_EARLY_S = 100e-6, 0.05, 300e-6
"""Outputs that are there later than that after it was said that they are, and this part of comparing them: no honest
process does that, and what it gains by waking others meanwhile is not known. Where eager calls have left their outputs
is read anew after each section, which takes as long as EAGER_EARLY_S besides."""


@dataclass(frozen=True)
class Taken:
    """One section's times, seconds."""

    woke_s: float
    """From letting the side go until it says that it runs."""
    ran_s: float
    """From ringing until it says that its calls are done."""
    seen_s: float
    """From then until all outputs are compared."""
    check_s: float
    """What comparing them takes by itself."""


@dataclass
class Rounds:
    """Times of the sections of each round, and what the baseline's own process reads."""

    calls: int
    """Calls in a section."""
    own_s: float
    """Seconds a call of the baseline by its own process's clock, nobody else at work."""
    linked_s: float
    """The same with the link that has the next call wait for it."""
    eager_link_s: float = 0.0
    """What a link adds to calls that are launched one by one."""
    are_eager: tuple[bool, bool] = (False, False)
    """Whether the baseline's calls, and the candidate's, are."""
    baseline: list[Taken] = field(default_factory=list)
    candidate: list[Taken] = field(default_factory=list)
    stopped: str = ""
    """Why no more were run."""

    @property
    def baseline_s(self) -> float:
        """Seconds a call of the baseline, what a graph's step takes left out."""
        return max(self.own_s - STEP_S, LEAST_S)

    @property
    def handing_over_s(self) -> float:
        """What a section takes besides its calls: the baseline's sections against its own clock.

        A switch between contexts, a launch, cold page tables. The candidate's sections have the same.
        """
        return median(taken.ran_s for taken in self.baseline) - self.calls * self.linked_s

    @property
    def excess_s(self) -> float:
        """Seconds by which a section of the candidate's began before it said so, or ended after it did."""
        ran_s = median(taken.ran_s for taken in self.candidate)
        total = 0.0
        for part in (_waking, _ending):
            more = median(map(part, self.candidate)) - median(map(part, self.baseline))
            total += more if more > MOST_EXCESS_S + MOST_EXCESS * ran_s else 0.0
        return total

    @property
    def early_s(self) -> float:
        """Seconds by which the candidate's outputs came after it had said that they were there; 0 within the noise."""
        early_s = median(map(_ending, self.candidate)) - median(map(_ending, self.baseline))
        most_s = MOST_EARLY_S + MOST_EARLY * median(taken.check_s for taken in self.baseline)
        return early_s if early_s > most_s + (EAGER_EARLY_S if self.are_eager[1] else 0.0) else 0.0

    def per_call(self) -> tuple[list[float], list[float]]:
        """Seconds a call in each round, of the baseline and of the candidate."""
        link_s = max(0.0, self.linked_s - self.own_s)
        by_baseline, by_candidate = self.are_eager
        # Where one side's calls are captured alone, a link of the other counts as far as it is known to cost as much.
        other_s = link_s if by_baseline == by_candidate else self.eager_link_s if by_candidate else 0.0
        step_s = self.own_s - self.baseline_s
        return (self._calls_s(self.baseline, 0.0, link_s + step_s),
                self._calls_s(self.candidate, self.excess_s, other_s + (0.0 if by_candidate else step_s)))

    def spread(self) -> float:
        """Standard deviation of the speedup that rounds do not show, as a fraction."""
        sides = (median(side) for side in self.per_call())
        return math.hypot(*(math.hypot(SECTION_SPREAD_S / (self.calls * time_s), SPREAD) for time_s in sides))

    def _calls_s(self, side: list[Taken], excess_s: float, besides_s: float) -> list[float]:
        over_s = self.handing_over_s - excess_s
        return [max((taken.ran_s - over_s) / self.calls - besides_s, LEAST_S) for taken in side]

    def from_rounds(self) -> Interval:
        """Logarithm of the speedup as the rounds give it."""
        return location_interval([math.log(b / c) for b, c in zip(*self.per_call(), strict=True)])

    def why_stop(self, most: int, left_s: float) -> str:
        """Why to run no more rounds than there are, or an empty string."""
        count = len(self.baseline)
        if count < MIN_ROUNDS:
            return ""
        if count >= most:
            return "num_runs"
        if count % 2 == 0 and self.from_rounds().half_width <= max(TIGHT, self.spread()):
            return "interval"
        return "max_time" if left_s < 0 else ""


def _waking(taken: Taken) -> float:
    return taken.woke_s


def _ending(taken: Taken) -> float:
    return taken.seen_s - taken.check_s


def comparison_of(
    rounds: Rounds, baseline: Mapping[str, Any], candidate: Mapping[str, Any], wall_s: float,
) -> Comparison:  # fmt: skip
    """What both sides' rounds give. baseline, candidate: what the processes have told."""
    sides = rounds.per_call()
    times = [median(side) for side in sides]
    speedup = speedup_interval(rounds.from_rounds(), rounds.spread(), 0.0)
    return Comparison(
        method=METHOD, baseline_s=times[0], candidate_s=times[1], speedup=speedup.estimate, speedup_low=speedup.low,
        speedup_high=speedup.high, runs=rounds.calls * len(rounds.baseline), rounds=len(rounds.baseline),
        stopped=rounds.stopped, disturbed_rounds=0, baseline_eager_s=_seconds(baseline.get("eager_s")),
        candidate_eager_s=_seconds(candidate.get("eager_s")), baseline_seen=Reading(times[0], times[0]),
        candidate_seen=Reading(times[1], times[1]), baseline_samples_s=tuple(sides[0]),
        candidate_samples_s=tuple(sides[1]),
        baseline_clock="supervisor", candidate_clock="supervisor",
        candidate_not_captured=_text(candidate.get("not_captured")), wall_s=wall_s)


def _seconds(value: Any) -> float:
    """What a process says of itself, where it is a time."""
    return float(value) if isinstance(value, int | float) and 0 <= value < math.inf else math.nan


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:300]
