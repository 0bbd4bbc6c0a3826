import math
import random

import pytest

from fastkernels.bench.timing import BadSamplesError, NoisyError, TimingPlan, check_times, compare
from fastkernels.bench.timing.instruments import WALL
from fastkernels.bench.timing.schedule import FEWEST_ROUNDS, MIN_ROUNDS
from fastkernels.results import Verdict

from .lanes import Clock, FakeLane


def lanes(baseline_s=1e-4, candidate_s=1e-4, **kinds):
    clock = Clock()
    log = []
    return clock, FakeLane(clock, baseline_s, name="A", seed=1, log=log, **kinds), FakeLane(
        clock, candidate_s, name="B", seed=2, log=log, **kinds)


def test_orders_alternate():
    clock, a, b = lanes(noise=0.5)
    compare(a, b, TimingPlan(num_runs=100, rounds=10), clock)
    assert "".join(a.log) == "ABBA" * 5


def test_alternating_order_cancels_drift():
    clock, a, b = lanes()
    a.drift = b.drift = lambda now: 1 + now  # everything gets slower, by 10 % during the comparison
    found = compare(a, b, TimingPlan(min_interval=0.0), clock)
    assert found.speedup == pytest.approx(1, abs=0.002)
    assert found.speedup_low < 1 < found.speedup_high


def test_stops_when_the_interval_is_tight():
    clock, a, b = lanes(noise=0.001)
    found = compare(a, b, TimingPlan(), clock)
    assert (found.stopped, found.rounds, found.runs) == ("interval", MIN_ROUNDS, 60)


def test_noise_lets_it_run_to_num_runs():
    clock, a, b = lanes(noise=2.0)
    found = compare(a, b, TimingPlan(), clock)
    assert (found.stopped, found.runs) == ("num_runs", 100)
    assert len(found.baseline_samples_s) == len(found.candidate_samples_s) == 100


def test_num_runs_is_a_maximum():
    clock, a, b = lanes(noise=2.0)
    assert compare(a, b, TimingPlan(num_runs=37), clock).runs == 37


def test_stops_at_max_time_with_the_rounds_that_an_interval_needs():
    clock, a, b = lanes(0.05, 0.05, noise=0.5)
    found = compare(a, b, TimingPlan(max_time_s=1.0), clock)
    assert found.stopped == "max_time"
    assert MIN_ROUNDS <= found.rounds < 10
    assert found.wall_s < 1.3


def test_a_call_longer_than_the_budget_still_gets_an_interval():
    clock, a, b = lanes(3.0, 2.0, noise=0.01)
    found = compare(a, b, TimingPlan(max_time_s=1.0), clock)
    assert (found.rounds, found.runs) == (FEWEST_ROUNDS, FEWEST_ROUNDS)
    assert a.measured == [1] * FEWEST_ROUNDS
    assert found.speedup_low < 1.5 < found.speedup_high
    assert found.wall_s < 3 * 5 + 2 * 5 + 1  # first call, rounds, nothing for the witness


def test_a_faster_candidate_has_a_speedup_over_one():
    clock, a, b = lanes(2e-4, 1e-4, noise=0.05)
    found = compare(a, b, TimingPlan(), clock)
    assert found.speedup == pytest.approx(2, rel=0.02)
    assert found.speedup_low > 1.9


@pytest.mark.parametrize("rounds", [6, 10])
def test_early_stop_keeps_the_coverage(rounds):
    held, runs = 0, 300
    for seed in range(runs):
        clock = Clock()
        a = FakeLane(clock, 1e-4, noise=0.03, seed=2 * seed)
        b = FakeLane(clock, 1e-4, noise=0.03, seed=2 * seed + 1)
        found = compare(a, b, TimingPlan(rounds=rounds), clock)
        held += found.speedup_low <= 1 <= found.speedup_high
    assert held / runs >= 0.93


def test_calls_that_touch_new_places_do_not_make_a_long_call_look_tampered_with():
    clock, a, b = lanes(0.025, 0.025)
    a.touching = b.touching = 4
    found = compare(a, b, TimingPlan(max_time_s=2.0), clock)
    assert max(b.measured) >= 2
    assert found.candidate_witness_s == pytest.approx(0.025 * 1.5, rel=0.1)
    assert check_times(found, 0.0) is None


def test_eager_latency_and_witness_are_reported_for_both_sides():
    clock, a, b = lanes(1e-4, 2e-4)
    a.message_s = b.message_s = 2e-4
    found = compare(a, b, TimingPlan(), clock)
    assert found.baseline_eager_s == pytest.approx(1e-4)
    assert found.candidate_eager_s == pytest.approx(2e-4)
    assert found.baseline_witness_s == pytest.approx(1e-4)
    assert found.candidate_witness_s == pytest.approx(2e-4)
    assert check_times(found, 0.0) is None


@pytest.mark.parametrize("answer", [[], [1.0] * 99, [math.nan], [math.inf], [-1e-6], ["1"], [True], None, {"a": 1}])
def test_an_answer_that_is_no_list_of_times_names_the_side(answer):
    clock, a, b = lanes()
    b.measure = lambda calls: answer
    with pytest.raises(BadSamplesError, match=r"^candidate: ") as caught:
        compare(a, b, TimingPlan(), clock)
    assert caught.value.side == "candidate"


def test_a_reported_zero_counts_as_the_clocks_resolution():
    clock, a, b = lanes()
    b.measure = lambda calls: [0.0] * calls
    found = compare(a, b, TimingPlan(), clock)
    assert found.candidate_s == pytest.approx(WALL.resolution_s)
    assert check_times(found, 2e-7)[0] is Verdict.TOO_FAST


def test_a_side_that_claims_no_time_at_all_does_not_run_away_with_the_schedule():
    clock, a, b = lanes(reported=0.0)
    found = compare(a, b, TimingPlan(), clock)
    assert found.runs <= 100
    assert sum(b.measured) <= 100


def test_a_bursty_machine_gives_a_wide_interval_not_a_wrong_one():
    wrong = 0
    for seed in range(60):
        clock, bursts = Clock(), random.Random(seed)
        a, b = (FakeLane(clock, 1e-4, noise=0.1, seed=seed + side) for side in (1000, 2000))
        until = [0.0, 1.0]

        def drift(now, until=until, bursts=bursts):
            if now > until[0]:
                until[:] = [now + bursts.expovariate(50), bursts.choice([1.0, 1.0, 3.0])]
            return until[1]

        a.drift = b.drift = drift
        found = compare(a, b, TimingPlan(), clock)
        wrong += not found.speedup_low <= 1 <= found.speedup_high
    assert wrong <= 6  # 5 % of 60, and two standard errors


class LoadedLane(FakeLane):
    """A lane whose calls take 10 times as long, and wait for a core, while `busy` says so."""

    def __init__(self, clock, seconds, busy, sees=True, **more):
        super().__init__(clock, seconds, **more)
        self.busy, self.sees = busy, sees
        self.drift = lambda now: 10.0 if busy(now) else 1.0

    def measure(self, calls):
        started = self.clock.now
        busy = self.busy(started)
        samples = super().measure(calls)
        if busy and self.sees:
            self.waited_s, self.given = self.waited_s + 0.9 * (self.clock.now - started), self.given + 2 * calls + 1
        return samples


def compare_beside(busy, sees=(True, True), **plan):
    """Two equal kernels, of which load lengthens the baseline alone, as it does one with more threads."""
    clock = Clock()
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        clock.now += seconds

    sides = [LoadedLane(clock, 2e-3, load, see, noise=0.02, seed=seed)
             for seed, (load, see) in enumerate(zip((busy, lambda now: False), sees, strict=True))]
    return compare(*sides, TimingPlan(**plan), clock, sleep), waited


def comes_and_goes(now):
    return now % 0.3 > 0.15


def test_disturbed_rounds_are_made_again_and_count_for_nothing():
    found, waited = compare_beside(comes_and_goes, patience_s=3.0)
    assert found.speedup == pytest.approx(1, rel=0.03)
    assert found.rounds >= MIN_ROUNDS
    assert 1 <= found.disturbed_rounds == len(waited)


def test_the_same_rounds_would_give_a_wrong_speedup_were_they_counted():
    found, _ = compare_beside(comes_and_goes, sees=(False, False))
    assert found.speedup_high > 2


def test_load_that_stays_leaves_no_times_and_costs_a_bounded_wait():
    with pytest.raises(NoisyError, match=r"other load disturbed [0-9]+ of [0-9]+ rounds") as error:
        compare_beside(lambda now: True)
    assert error.value.disturbed == error.value.rounds > 0
    _, waited = compare_beside(lambda now: False)
    assert waited == []


def test_known_work_that_is_slow_disturbs_a_round_that_no_counter_shows():
    clock, a, b = lanes(2e-4, 2e-4)
    a.slower = 3.0
    with pytest.raises(NoisyError):
        compare(a, b, TimingPlan(patience_s=0.1), clock, lambda seconds: setattr(clock, "now", clock.now + seconds))
    a.slower = 1.8  # a clock that has come down from its highest
    assert compare(a, b, TimingPlan(), clock).disturbed_rounds == 0


def test_few_waits_among_many_calls_are_left_out_as_samples_are():
    clock, a, b = lanes(2e-5, 2e-5)
    measure = a.measure

    def waits_once(calls):
        a.waited_s, a.given = a.waited_s + 0.004, a.given + 2
        return measure(calls)

    a.measure = waits_once
    assert compare(a, b, TimingPlan(), clock).disturbed_rounds == 0
