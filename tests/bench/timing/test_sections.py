"""What rounds of timed sections say of a call, from times made up by hand."""

import random

import pytest

from fastkernels.bench.timing.sections import LEAST_S, STEP_S, Rounds, Taken, comparison_of

US = 1e-6
CALLS = 500
OVER_S = 180 * US
"""What a section takes besides its calls here."""
LINK_S = 1.2 * US


def taken(call_s, rng=None, early_s=0.0, woke_s=60 * US, calls=CALLS, link_s=LINK_S):
    noise = rng.gauss(0, 12 * US) if rng else 0.0
    return Taken(woke_s=woke_s, ran_s=calls * (call_s + link_s) + OVER_S + noise - early_s,
                 seen_s=300 * US + early_s, check_s=150 * US)


def rounds_of(baseline_s, candidate_s, count=12, seed=None, **more):
    rng = None if seed is None else random.Random(seed)
    found = Rounds(CALLS, own_s=baseline_s, linked_s=baseline_s + LINK_S)
    for _ in range(count):
        found.baseline.append(taken(baseline_s, rng))
        found.candidate.append(taken(candidate_s, rng, **more))
    return found


def compared(rounds):
    told = {"own_s": rounds.own_s, "eager_s": 30 * US}
    return comparison_of(rounds, told, told, 0.5)


@pytest.mark.parametrize(("baseline_s", "candidate_s"), [(10 * US, 5 * US), (2 * US, 2 * US), (40 * US, 80 * US)])
def test_times_are_those_of_the_calls_less_a_step_of_the_graph(baseline_s, candidate_s):
    found = compared(rounds_of(baseline_s, candidate_s))
    assert found.baseline_s == pytest.approx(baseline_s - STEP_S)
    assert found.candidate_s == pytest.approx(candidate_s - STEP_S)
    assert found.speedup == pytest.approx((baseline_s - STEP_S) / (candidate_s - STEP_S))
    assert (found.runs, found.rounds, found.method) == (12 * CALLS, 12, "sections")


@pytest.mark.parametrize("early_us", [40, 400, 2500])
def test_an_answer_before_the_outputs_are_there_gains_nothing(early_us):
    honest = compared(rounds_of(5 * US, 5 * US))
    early = compared(rounds_of(5 * US, 5 * US, early_s=early_us * US))
    allowed = 20 * US + 0.01 * CALLS * 6.2 * US
    gained_s = honest.candidate_s - early.candidate_s
    assert gained_s <= allowed / CALLS + 1e-12
    if early_us * US > allowed:
        assert gained_s == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("early_us", "told"), [(0, False), (90, False), (200, True), (2500, True)])
def test_outputs_that_come_late_are_told_of(early_us, told):
    assert (rounds_of(5 * US, 5 * US, early_s=early_us * US).early_s > 0) is told


def test_time_between_being_let_go_and_saying_so_counts():
    late = compared(rounds_of(5 * US, 4 * US, woke_s=(60 + 500) * US))
    assert late.candidate_s == pytest.approx(5 * US - STEP_S)


def test_noise_of_sections_does_not_move_the_speedup_of_equals():
    outside = sum(not low <= 1 <= high for low, high in (
        (found.speedup_low, found.speedup_high)
        for found in (compared(rounds_of(3 * US, 3 * US, seed=seed)) for seed in range(200))))
    assert outside <= 4, "the interval is also to hold what differs between processes, of which there is nothing here"


def test_eager_calls_pay_for_their_launches_and_not_for_the_link():
    rounds = rounds_of(5 * US, 5 * US)
    eager_link_s = 6 * US
    rounds.candidate = [taken(40 * US, link_s=eager_link_s) for _ in rounds.candidate]
    rounds = Rounds(CALLS, rounds.own_s, rounds.linked_s, eager_link_s, (False, True), rounds.baseline,
                    rounds.candidate)
    assert compared(rounds).candidate_s == pytest.approx(40 * US)
    rounds.are_eager = (True, False)
    assert compared(rounds).candidate_s > 40 * US, "a link that is not known in a graph is given no credit"


def test_a_reading_below_nothing_is_the_least():
    rounds = rounds_of(3 * US, 3 * US)
    rounds.candidate = [taken(-2 * US) for _ in rounds.candidate]
    assert compared(rounds).candidate_s == LEAST_S


def test_rounds_end_when_they_are_tight_or_enough_or_late():
    assert rounds_of(5 * US, 5 * US, count=5).why_stop(24, -1.0) == ""
    assert rounds_of(5 * US, 5 * US, count=6).why_stop(24, 1.0) == "interval"
    wide = Rounds(CALLS, own_s=5 * US, linked_s=5 * US + LINK_S)
    for number in range(7):
        wide.baseline.append(taken(5 * US))
        wide.candidate.append(taken((5 + number % 2) * US))
    assert wide.why_stop(24, 1.0) == ""
    assert wide.why_stop(7, 1.0) == "num_runs"
    assert wide.why_stop(24, -0.1) == "max_time"


def test_what_a_process_says_of_itself_is_no_more_than_a_detail():
    rounds = rounds_of(5 * US, 5 * US)
    found = comparison_of(rounds, {"own_s": 5 * US}, {"own_s": "soon", "eager_s": -1, "not_captured": "x" * 999}, 0.1)
    assert found.candidate_s == pytest.approx(5 * US - STEP_S)
    assert found.candidate_eager_s != found.candidate_eager_s
    assert len(found.candidate_not_captured) == 300
