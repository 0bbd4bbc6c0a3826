"""What the supervisor's clock says on a busy machine, simulated: no lie is accepted by luck, nobody falsely accused."""

from collections import Counter

import pytest

from fastkernels.bench.timing import TimingPlan, check_times, compare
from fastkernels.bench.timing.witness import MESSAGE_S, Reading, reading, witness
from fastkernels.results import Verdict

from .lanes import BusyLane, Clock, FakeLane

PLAN = TimingPlan(min_interval=0.01)
LOADS = {
    "quiet": {"runs_s": 10.0, "stolen_s": 0.001, "late": 0.0},
    "two busy processes": {"late": 0.0},
    "and late messages": {},
    "many busy processes": {"runs_s": 0.003, "stolen_s": 0.008, "late": 0.5, "late_s": 0.015},
}
"""How long a worker runs until it is taken off its core, for how long, and how often messages are late, how much."""

GRADINGS = 40


def outcomes(load, seconds, reported):
    """How many gradings accept, refuse or leave out times; each compares up to three times, as the grader does."""
    found = Counter()
    for seed in range(GRADINGS):
        for attempt in range(3):
            clock = Clock()
            sides = [BusyLane(clock, seconds, **LOADS[load], reported=share, seed=1000 * place + 10 * seed + attempt)
                     for place, share in enumerate((1.0, reported))]
            trouble = check_times(compare(*sides, PLAN, clock), 0.0)
            if trouble is None:
                break
        found["accepted" if trouble is None else "left out" if trouble[0] is None else str(trouble[0])] += 1
    return found


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("seconds", [1e-4, 1e-3, 6e-3, 3e-2])
def test_an_honest_kernel_is_never_accused(load, seconds):
    found = outcomes(load, seconds, 1.0)
    assert found[Verdict.TIMING_TAMPERED] == 0
    assert found["accepted"] >= 0.95 * GRADINGS


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("seconds", [1e-4, 1e-3, 6e-3, 3e-2])
def test_a_sixth_of_the_time_is_not_accepted_by_luck(load, seconds):
    found = outcomes(load, seconds, 1 / 6)
    assert found["accepted"] <= 0.03 * GRADINGS
    assert found[Verdict.TIMING_TAMPERED] >= 0.8 * GRADINGS


def test_a_slow_n_says_nothing():
    """N calls of 0.1 ms that took longer than 2N: before, a call of nothing, which fits any report."""
    seen = reading(0.012, 0.0012, 5)
    assert seen.least_s == 0.0
    assert seen.most_s == pytest.approx(0.0006 / 5 / 2)
    assert reading(0.0007, 0.0012, 5) == Reading(pytest.approx(1e-4), pytest.approx(1e-4))


def test_a_slow_2n_does_not_make_calls_look_longer_than_n_of_them():
    seen = reading(0.0006, 0.02, 5)
    assert seen.least_s == seen.most_s == pytest.approx(0.0006 / 5)


def test_what_is_taken_for_a_message_is_bounded():
    assert reading(0.030, 0.050, 1).most_s == pytest.approx((0.050 - MESSAGE_S) / 2)


def test_a_clock_that_is_disturbed_throughout_accuses_nobody_and_bears_nobody_out():
    """Every N takes as long as 2N, whether calls are as short as reported or six times as long."""
    clock = Clock()

    def replay(calls):
        clock.now += 0.006

    seen = witness(replay, 1e-4, clock)
    assert seen.least_s == 0.0
    assert seen.most_s > 4e-4


@pytest.mark.parametrize("reported", [1.0, 1 / 6])
def test_times_that_a_disturbed_clock_does_not_bear_out_have_no_verdict(reported):
    clock = Clock()
    baseline, candidate = FakeLane(clock, 1e-3), FakeLane(clock, 1e-3, reported=reported)

    def replay(calls):
        clock.now += 0.05

    candidate.replay = replay
    verdict, why = check_times(compare(baseline, candidate, PLAN, clock), 0.0)
    assert verdict is None
    assert "the supervisor's clock, disturbed by other load, saw" in why


def test_a_clock_that_contradicts_the_trusted_side_too_accuses_nobody():
    clock = Clock()
    baseline, candidate = FakeLane(clock, 1e-3, reported=0.3), FakeLane(clock, 1e-3, reported=0.3)
    verdict, _ = check_times(compare(baseline, candidate, PLAN, clock), 0.0)
    assert verdict is None


@pytest.mark.parametrize("reported", [1.0, 1 / 6])
def test_rounds_that_load_has_made_long_bear_nothing_out(reported):
    """A sixth of times that are twelve times as long is still longer than an honest call."""
    clock, busy = Clock(), [12.0]
    sides = [FakeLane(clock, 6e-4, reported=share, message_s=2e-4) for share in (1.0, reported)]
    for side in sides:
        side.drift = lambda now: busy[0]
        side.replay = lambda calls, quiet=side.replay: busy.__setitem__(0, 1.0) or quiet(calls)
    found = compare(*sides, PLAN, clock)
    assert found.candidate_claim_s > found.candidate_witness_s
    verdict, why = check_times(found, 0.0)
    assert verdict is None
    assert "a call of the baseline took 7.2e+03 us or more in the rounds, disturbed by other load" in why
