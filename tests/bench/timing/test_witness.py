import pytest

from fastkernels.bench.timing import TimingPlan, check_times, compare
from fastkernels.bench.timing.witness import witness
from fastkernels.results import Verdict

from .lanes import Clock, FakeLane


def judged(honest_s=1e-5, floor_s=0.0, reported=1.0, baseline_s=1e-5):
    clock = Clock()
    baseline, candidate = FakeLane(clock, baseline_s, seed=1), FakeLane(clock, honest_s, reported=reported, seed=2)
    return check_times(compare(baseline, candidate, TimingPlan(), clock), floor_s)


def test_honest_times_pass():
    assert judged() is None


@pytest.mark.parametrize("seconds", [1e-3, 0.5])
def test_a_time_reported_as_a_third_is_tampering(seconds):
    verdict, message = judged(honest_s=seconds, reported=0.3)
    assert verdict is Verdict.TIMING_TAMPERED
    assert "by the supervisor's clock a call takes" in message


def test_a_lie_about_a_tiny_call_is_found_by_the_floor():
    assert judged(honest_s=1e-5, reported=1e-3, floor_s=1e-6)[0] is Verdict.TOO_FAST


def test_a_time_under_the_floor_is_too_fast_even_if_the_clocks_agree():
    verdict, message = judged(honest_s=1e-6, floor_s=4e-6)
    assert verdict is Verdict.TOO_FAST
    assert message == ("1 us a call is reported; moving the data or doing the operations takes 4 us at least")


def test_a_floor_that_the_trusted_baseline_is_below_is_disproved():
    assert judged(honest_s=3e-6, baseline_s=3e-6, floor_s=4e-6) is None
    assert judged(honest_s=1e-6, baseline_s=3e-6, floor_s=4e-6)[0] is Verdict.TOO_FAST


def test_witness_cancels_what_n_and_2n_have_in_common():
    clock = Clock()
    lane = FakeLane(clock, 1e-5, message_s=0.5)
    assert witness(lane.replay, 1e-5, clock).least_s == pytest.approx(1e-5)


def test_witness_tries_again_while_other_load_makes_calls_longer():
    clock = Clock()
    lane = FakeLane(clock, 1e-5)
    lane.drift = lambda now: 30.0 if now < 0.5 else 1.0
    assert witness(lane.replay, 1e-5, clock).most_s < 6e-5


def test_witness_of_a_liar_ends():
    clock = Clock()
    lane = FakeLane(clock, 1e-3)
    assert witness(lane.replay, 1e-6, clock).least_s == pytest.approx(1e-3)
    assert clock.now < 10
