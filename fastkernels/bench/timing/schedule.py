"""Times baseline and candidate in turns until the speedup is known well enough, on the supervisor's side."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from fastkernels.bench.timing.instruments import INSTRUMENTS, Instrument
from fastkernels.bench.timing.statistics import Interval, location_interval, log_ratios, speedup_interval
from fastkernels.bench.timing.witness import WITNESS_FROM_ROUNDS_S, witness_s
from fastkernels.errors import FastKernelsError

Clock = Callable[[], float]

MIN_ROUNDS = 6
"""Fewest rounds before an early stop: the least for which the signed-rank interval exists."""
FEWEST_ROUNDS = 3
"""Fewest rounds where one round alone spends the time budget."""
WARMUP_SHARE = 0.2
"""Part of the time budget that warm-up may take after the first call."""
EAGER_CALLS = 20
"""Calls behind the eager latency, where the budget allows."""


class Lane(Protocol):
    """One side of a comparison: a timer in a worker process, reached through messages."""

    def measure(self, calls: int) -> list[float]:
        """As `Timer.measure`."""

    def eager(self, calls: int) -> list[float]:
        """As `Timer.eager`."""

    def replay(self, calls: int) -> None:
        """As `Timer.replay`."""


class BadSamplesError(FastKernelsError):
    """A side reported something that is no list of times; for the candidate's side that is tampering."""

    def __init__(self, side: str, what: str) -> None:
        super().__init__(f"{side}: {what}")
        self.side = side
        """`baseline` or `candidate`."""


@dataclass(frozen=True)
class TimingPlan:
    """How long and how exactly to time."""

    method: str = "wall"
    """Name of the timer on both sides."""
    num_warmup: int = 10
    """Untimed calls of each side before the rounds."""
    num_runs: int = 100
    """Most timed calls of each side."""
    max_time_s: float = 1.0
    """Most seconds for both sides together, warm-up included; the fewest rounds are run in any case."""
    min_interval: float = 0.01
    """Stop early once half the interval that the rounds give is within this fraction: half the smallest difference
    that is to be found, so that a 2 % slower kernel is told from an equal one 97 times in 100."""
    rounds: int = 10
    """Rounds into which num_runs is divided."""


@dataclass
class Side:
    """What is known of one side so far."""

    name: str
    lane: Lane
    eager_s: float = math.nan
    rounds: list[list[float]] = field(default_factory=list)
    wall_per_call_s: list[float] = field(default_factory=list)

    @property
    def samples(self) -> tuple[float, ...]:
        """Every sample of every round."""
        return tuple(sample for one in self.rounds for sample in one)


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
    baseline_eager_s: float
    candidate_eager_s: float
    baseline_witness_s: float
    candidate_witness_s: float
    baseline_samples_s: tuple[float, ...]
    candidate_samples_s: tuple[float, ...]
    wall_s: float


def compare(baseline: Lane, candidate: Lane, plan: TimingPlan, clock: Clock = time.perf_counter) -> Comparison:
    """Warm both sides up, time them in rounds of alternating order (AB, BA, ...), and have the supervisor witness.

    Raises BadSamplesError where a side answers with something other than times, and whatever the lanes raise.
    """
    start = clock()
    sides = (Side("baseline", baseline), Side("candidate", candidate))
    for side in sides:
        _warm_up(side, plan, clock)
    instrument = INSTRUMENTS[plan.method]
    calls = _calls_per_round(sides, plan, plan.max_time_s - (clock() - start))
    runs, stopped = 0, ""
    while not stopped:
        calls = max(1, min(calls, plan.num_runs - runs))
        for side in sides if len(sides[0].rounds) % 2 == 0 else reversed(sides):
            _round(side, calls, instrument, clock)
        runs += calls
        stopped = _stop(sides, plan, runs, clock() - start)
    times = [median(side.samples) for side in sides]
    witnesses = [_witness(side, seconds, clock) for side, seconds in zip(sides, times, strict=True)]
    speedup = _speedup(sides, instrument)
    return Comparison(
        method=plan.method, baseline_s=times[0], candidate_s=times[1], speedup=speedup.estimate,
        speedup_low=speedup.low, speedup_high=speedup.high, runs=runs, rounds=len(sides[0].rounds), stopped=stopped,
        baseline_eager_s=sides[0].eager_s, candidate_eager_s=sides[1].eager_s, baseline_witness_s=witnesses[0],
        candidate_witness_s=witnesses[1], baseline_samples_s=sides[0].samples, candidate_samples_s=sides[1].samples,
        wall_s=clock() - start,
    )


def _warm_up(side: Side, plan: TimingPlan, clock: Clock) -> None:
    """Warm one side up; the later warm-up calls give its eager latency."""
    first = _checked(side, side.lane.eager(1), 1)
    budget, start = plan.max_time_s * WARMUP_SHARE / 2, clock()
    done = 1
    if first[0] < budget:
        first = _checked(side, side.lane.eager(1), 1)  # the very first call may have compiled
        done += 1
    left = int(min(max(plan.num_warmup - done, 0), (budget - (clock() - start)) / first[0]))
    if left > 0:
        first = _checked(side, side.lane.eager(left), left)
    more = int(min(EAGER_CALLS - left, (budget - (clock() - start)) / median(first)))
    if more > 0:
        first += _checked(side, side.lane.eager(more), more)
    side.eager_s = median(first)


def _calls_per_round(sides: tuple[Side, Side], plan: TimingPlan, left_s: float) -> int:
    """num_runs over the planned rounds, or fewer where the time left would not last for the rounds of an interval."""
    per_call_s = sum(side.eager_s for side in sides)
    affordable = left_s / (MIN_ROUNDS * per_call_s)
    return max(1, int(min(math.ceil(plan.num_runs / plan.rounds), affordable)))


def _round(side: Side, calls: int, instrument: Instrument, clock: Clock) -> None:
    start = clock()
    samples = _checked(side, side.lane.measure(calls), calls)
    side.wall_per_call_s.append((clock() - start) / calls)
    side.rounds.append([max(sample, instrument.resolution_s) for sample in samples])


def _stop(sides: tuple[Side, Side], plan: TimingPlan, runs: int, spent_s: float) -> str:
    """Why to stop now, or an empty string."""
    rounds = len(sides[0].rounds)
    if rounds < FEWEST_ROUNDS:
        return ""
    if runs >= plan.num_runs and rounds >= min(MIN_ROUNDS, plan.num_runs):
        return "num_runs"
    if spent_s * (rounds + 1) / rounds > plan.max_time_s:
        return "max_time"
    tight = rounds >= MIN_ROUNDS and rounds % 2 == 0 and _from_rounds(sides).half_width <= plan.min_interval
    return "interval" if tight else ""


def _from_rounds(sides: tuple[Side, Side]) -> Interval:
    return location_interval(log_ratios(sides[0].rounds, sides[1].rounds))


def _speedup(sides: tuple[Side, Side], instrument: Instrument) -> Interval:
    spreads = [instrument.relative_spread(median(side.samples)) for side in sides]
    return speedup_interval(_from_rounds(sides), *spreads)


def _witness(side: Side, seconds: float, clock: Clock) -> float:
    """Seconds a call by the supervisor's clock; where a call is long, its own rounds have already shown it."""
    if seconds >= WITNESS_FROM_ROUNDS_S:
        return min(side.wall_per_call_s)
    return witness_s(side.lane.replay, seconds, clock)


def _checked(side: Side, samples: object, calls: int) -> list[float]:
    """The samples, if they are 1 to `calls` finite times that are not negative."""
    if not isinstance(samples, list) or not 1 <= len(samples) <= calls:
        raise BadSamplesError(side.name, f"{calls} calls were asked for, the answer is no list of 1 to {calls} times")
    for sample in samples:
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample < math.inf:
            raise BadSamplesError(side.name, f"{sample!r} is no time in seconds")
    return [float(sample) for sample in samples]
