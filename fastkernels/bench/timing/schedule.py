"""Times baseline and candidate in turns on a CPU until the speedup is known well enough; the supervisor's side."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from fastkernels.bench.timing.comparison import Comparison, claim_s
from fastkernels.bench.timing.instruments import WALL
from fastkernels.bench.timing.load import Threads, waits_between
from fastkernels.bench.timing.statistics import Interval, location_interval, log_ratios, speedup_interval, typical
from fastkernels.bench.timing.wall import calls_in_sample
from fastkernels.bench.timing.witness import FROM_ROUNDS_S, Reading, witness
from fastkernels.errors import FastKernelsError

Clock = Callable[[], float]

MIN_ROUNDS = 6
"""Fewest rounds before an early stop: the least for which the signed-rank interval exists."""
FEWEST_ROUNDS = 3
"""Fewest rounds where one round alone spends the time budget."""
WARMUP_SHARE = 0.2
"""Part of the time budget that warm-up may take after each side's first call."""
EAGER_CALLS = 20
"""Calls at the end of the warm-up, where the budget allows."""
MOST_SLOWER = 2.0
"""Times as long as ever that the trusted side's known work may take right after a round: a clock that falls from its
highest to what the machine keeps up makes less, another guest on the same core more."""
PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.2
"""Wait after a disturbed round, doubled for each further one in a row: what disturbs often passes."""
_SHORTEST_S = 1e-7
"""No call is taken to cost less of the supervisor's time."""


class Lane(Protocol):
    """One side of a comparison: a timer in a worker process, reached through messages."""

    def measure(self, calls: int) -> list[float]:
        """As `WallTimer.measure`."""

    def eager(self, calls: int) -> list[float]:
        """As `WallTimer.eager`."""

    def replay(self, calls: int) -> None:
        """As `WallTimer.replay`."""

    def threads(self) -> Threads:
        """What the threads of its process have waited for a core so far; empty where nothing tells."""

    def slowdown(self) -> float:
        """Times as long as ever that known work took right after the last `measure`; 1 where there is none."""


class NoisyError(FastKernelsError):
    """Other load disturbed so many rounds that the others say nothing."""

    def __init__(self, rounds: int, disturbed: int) -> None:
        super().__init__(f"other load disturbed {disturbed} of {rounds} rounds")
        self.rounds, self.disturbed = rounds, disturbed


class BadSamplesError(FastKernelsError):
    """A side reported something that is no list of times; for the candidate's side that is tampering."""

    def __init__(self, side: str, what: str) -> None:
        super().__init__(f"{side}: {what}")
        self.side = side
        """`baseline` or `candidate`."""


@dataclass(frozen=True)
class TimingPlan:
    """How long and how exactly to time."""

    num_warmup: int = 10
    """Untimed calls of each side before the rounds."""
    num_runs: int = 100
    """Most timed calls of each side."""
    max_time_s: float = 1.0
    """Most seconds for both sides together, less each side's first call; the fewest rounds are run in any case."""
    min_interval: float = 0.005
    """Stop early once half the interval that the rounds give is within this fraction. At 0.005 a kernel 1 % slower is
    told from an equal one 97 times in 100 (four standard errors), as far as the instrument can tell them apart."""
    rounds: int = 10
    """Rounds into which num_runs is divided."""
    patience_s: float = 1.0
    """Most seconds more that are spent on rounds which other load disturbs, and on waiting for it to pass."""


@dataclass
class Side:
    """What is known of one side so far."""

    name: str
    lane: Lane
    wall_per_call_s: float = math.inf
    """By the supervisor's clock, in the last request."""
    shortest_wall_s: float = math.inf
    """Least of that over the rounds."""
    rounds: list[list[float]] = field(default_factory=list)
    """Samples of each round that was not disturbed."""

    @property
    def samples(self) -> tuple[float, ...]:
        """Every sample of every round."""
        return tuple(sample for one in self.rounds for sample in one)


def compare(baseline: Lane, candidate: Lane, plan: TimingPlan, clock: Clock = time.perf_counter,
            sleep: Callable[[float], None] = time.sleep) -> Comparison:
    """Warm both sides up, time them in rounds of alternating order (AB, BA, ...), and have the supervisor witness.

    Rounds that other load disturbs are made again, and do not count. Raises NoisyError where too few are left,
    BadSamplesError where a side answers with something other than times, and whatever the lanes raise.
    """
    start = clock()
    sides = (Side("baseline", baseline), Side("candidate", candidate))
    for side in sides:
        _warm_up(side, plan, clock)
    runs, stopped, disturbed = _rounds(sides, plan, clock, sleep)
    times = [median(side.samples) for side in sides]
    seen = [_witness(side, clock) for side in sides]
    speedup = _speedup(sides)
    return Comparison(
        method=WALL.name, baseline_s=times[0], candidate_s=times[1], speedup=speedup.estimate,
        speedup_low=speedup.low, speedup_high=speedup.high, runs=runs, rounds=len(sides[0].rounds), stopped=stopped,
        disturbed_rounds=disturbed,
        baseline_eager_s=times[0], candidate_eager_s=times[1],  # a call on a CPU is an eager one
        baseline_seen=seen[0], candidate_seen=seen[1],
        baseline_samples_s=sides[0].samples, candidate_samples_s=sides[1].samples,
        baseline_clock="process", candidate_clock="process", candidate_not_captured=None, wall_s=clock() - start,
    )


def _warm_up(side: Side, plan: TimingPlan, clock: Clock) -> None:
    """Warm one side up; the supervisor's clock decides how many calls there are."""
    per_call_s = _eager(side, 1, clock)
    budget_s = plan.max_time_s * WARMUP_SHARE / 2
    for wanted in (1, plan.num_warmup - 2, EAGER_CALLS):  # the second call shows the cost: the first may have compiled
        calls = min(wanted, int(budget_s / per_call_s))
        if calls > 0:
            per_call_s = _eager(side, calls, clock)
            budget_s -= calls * per_call_s
    side.wall_per_call_s = per_call_s


def _eager(side: Side, calls: int, clock: Clock) -> float:
    """Seconds a call by the supervisor's clock."""
    start = clock()
    _checked(side, side.lane.eager(calls), calls)
    return max((clock() - start) / calls, _SHORTEST_S)


def _rounds(sides: tuple[Side, Side], plan: TimingPlan, clock: Clock,
            sleep: Callable[[float], None]) -> tuple[int, str, int]:
    """Time both sides in turns; calls of each, why it ended, and how many rounds were disturbed."""
    end = clock() + plan.max_time_s * (1 - WARMUP_SHARE)
    patience_s, pause_s, disturbed = plan.patience_s, PAUSE_S, 0
    most, runs, stopped, done = math.ceil(plan.num_runs / plan.rounds), 0, "", 0
    while not stopped:
        if done < MIN_ROUNDS:  # leave time for the rounds that an interval needs
            per_round_s = max(0.0, end - clock()) / (MIN_ROUNDS - done)
            planned = min(most, int(per_round_s / sum(side.wall_per_call_s for side in sides)))
        calls, started = max(1, min(planned, plan.num_runs - runs)), clock()
        order = sides if done % 2 == 0 else sides[::-1]
        if not _round(order, calls, clock):
            disturbed += 1
            sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            end, patience_s = end + (clock() - started), patience_s - (clock() - started)
            stopped = "" if patience_s > 0 else "disturbed"
            continue
        runs, done, pause_s = runs + calls, done + 1, PAUSE_S
        next_s = sum(side.wall_per_call_s for side in sides) * max(planned, 1)
        stopped = _stop(sides, plan, runs, end - clock() - next_s)
    if stopped == "disturbed" and done < max(FEWEST_ROUNDS, min(MIN_ROUNDS, disturbed)):
        raise NoisyError(done + disturbed, disturbed)
    return runs, stopped, disturbed


def _round(order: tuple[Side, Side], calls: int, clock: Clock) -> bool:
    """Time both sides in this order; False, and nothing is kept, where other load has disturbed it."""
    kept: list[list[float]] = []
    for side in order:
        samples = _undisturbed(side, calls, clock)
        if samples is None:
            return False
        kept.append(samples)
    for side, samples in zip(order, kept, strict=True):
        side.rounds.append(samples)
    return True


def _undisturbed(side: Side, calls: int, clock: Clock) -> list[float] | None:
    """One side's samples; None where other load has disturbed them."""
    before, start = side.lane.threads(), clock()
    samples = _checked(side, side.lane.measure(calls), calls)
    took_s = clock() - start
    per_call_s = max(took_s / calls, _SHORTEST_S)
    side.shortest_wall_s = min(side.shortest_wall_s, per_call_s)
    made = len(samples) * calls_in_sample(typical(samples))
    waits = waits_between(before, side.lane.threads())
    if waits.disturb(made, took_s) or side.lane.slowdown() > MOST_SLOWER:
        side.wall_per_call_s = min(side.wall_per_call_s, per_call_s)
        return None
    side.wall_per_call_s = per_call_s
    return [max(sample, WALL.resolution_s) for sample in samples]


def _stop(sides: tuple[Side, Side], plan: TimingPlan, runs: int, left_s: float) -> str:
    """Why to stop now, or an empty string. left_s: what another round would leave of the time budget."""
    rounds = len(sides[0].rounds)
    if rounds < FEWEST_ROUNDS:
        return ""
    if runs >= plan.num_runs:
        return "num_runs"
    if left_s < 0:
        return "max_time"
    tight = rounds >= MIN_ROUNDS and rounds % 2 == 0 and _from_rounds(sides).half_width <= plan.min_interval
    return "interval" if tight else ""


def _from_rounds(sides: tuple[Side, Side]) -> Interval:
    return location_interval(log_ratios(sides[0].rounds, sides[1].rounds))


def _speedup(sides: tuple[Side, Side]) -> Interval:
    spreads = [WALL.relative_spread(median(side.samples)) for side in sides]
    return speedup_interval(_from_rounds(sides), *spreads)


def _witness(side: Side, clock: Clock) -> Reading:
    """Seconds a call by the supervisor's clock; the rounds of a long call have already shown it."""
    claimed_s = claim_s(side.samples)
    if claimed_s >= FROM_ROUNDS_S:
        return Reading(side.shortest_wall_s, side.shortest_wall_s)
    return witness(side.lane.replay, claimed_s, clock)


def _checked(side: Side, samples: object, calls: int) -> list[float]:
    """The samples, if they are 1 to `calls` finite times that are not negative."""
    if not isinstance(samples, list) or not 1 <= len(samples) <= calls:
        raise BadSamplesError(side.name, f"{calls} calls were asked for, the answer is no list of 1 to {calls} times")
    for sample in samples:
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample < math.inf:
            raise BadSamplesError(side.name, f"{sample!r} is no time in seconds")
    return [float(sample) for sample in samples]
