"""Changes, their intervals, and which of many are more than chance."""

import math
import random
from dataclasses import replace

import pytest
from results_by_hand import passed

from fastkernels.report.significance import Change, change_between, drift, pooled, proven, student_tail


def timing(speedup, low, high, factor=1.0):
    made = passed().timing
    return replace(made, speedup=speedup, speedup_low=low, speedup_high=high, baseline_s=made.baseline_s * factor,
                   candidate_s=made.candidate_s * factor)


@pytest.mark.parametrize(("t", "chance"), [(0, 0.5), (1.833, 0.05), (2.262, 0.025), (2.821, 0.01), (3.250, 0.005),
                                           (4.297, 0.001), (-2.262, 0.975)])
def test_the_tail_is_that_of_students_table_at_nine_degrees(t, chance):
    assert student_tail(t) == pytest.approx(chance, rel=2e-3)


def test_the_tail_stays_a_probability_far_out():
    values = [student_tail(t) for t in (5, 10, 30, 100, 1e6, math.inf)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 1e-9
    assert values[1] == pytest.approx(1.8e-6, rel=0.1)


def test_a_speedup_that_falls_is_a_time_that_grows():
    change = change_between(timing(2.0, 1.9, 2.1), timing(1.6, 1.52, 1.68))
    assert change.slowdown == pytest.approx(0.25)
    assert change.low < 0.25 < change.high
    back = change_between(timing(1.6, 1.52, 1.68), timing(2.0, 1.9, 2.1))
    assert back.slowdown == pytest.approx(-0.2)
    assert (back.below, back.above) == pytest.approx((change.above, change.below))


def test_both_intervals_are_added_in_quadrature_each_from_its_own_end():
    change = change_between(timing(1.0, math.exp(-0.03), math.exp(0.01)), timing(1.0, math.exp(-0.02), math.exp(0.04)))
    assert change.below == pytest.approx(0.05)  # base may have been 0.03 lower, new 0.04 higher
    assert change.above == pytest.approx(math.hypot(0.01, 0.02))


def test_a_machine_that_is_slower_as_a_whole_cancels():
    assert change_between(timing(2.0, 1.9, 2.1), timing(2.0, 1.9, 2.1, factor=1.5)).slowdown == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_number_is_no_change(bad, place):
    ends = [2.0, 1.9, 2.1]
    ends[place] = bad
    assert change_between(timing(2.0, 1.9, 2.1), timing(*ends)) is None
    assert change_between(timing(*ends), timing(2.0, 1.9, 2.1)) is None


def test_an_interval_without_width_divides_by_nothing():
    change = change_between(timing(2.0, 2.0, 2.0), timing(1.9, 1.9, 1.9))
    assert change.chance_slower(0.03) < 1e-9
    assert change.chance_faster(0.03) == pytest.approx(1)


def test_a_change_at_its_half_width_has_a_chance_of_a_fortieth():
    change = Change(0.02, 0.02, 0.02)
    assert change.chance_slower(0.0) == pytest.approx(0.025)
    assert change.chance_slower(math.expm1(0.02)) == pytest.approx(0.5)
    assert Change(-0.02, 0.05, 0.02).chance_faster(0.0) == pytest.approx(0.025)


def test_findings_stand_as_benjamini_and_hochberg_have_it():
    # Ranks of 5 at a level of 5 %: 0.01, 0.02, 0.03, 0.04, 0.05. The third is over its own bound, the fourth is not.
    assert proven([0.9, 0.005, 0.039, 0.032, 0.011], 0.05) == {1, 2, 3, 4}
    assert proven([0.9, 0.005, 0.041, 0.032, 0.011], 0.05) == {1, 4}
    assert proven([0.011] * 4, 0.01) == set()
    assert proven([0.01] * 4, 0.01) == {0, 1, 2, 3}
    assert proven([], 0.05) == set()


def test_what_one_comparison_shows_ten_thousand_do_not():
    assert proven([0.001]) == {0}
    assert proven([0.001] + [0.5] * 9999) == set()


def test_among_equal_kernels_the_level_is_kept_however_many_there_are():
    rng = random.Random(1)
    families = 400
    false = sum(bool(proven([rng.random() for _ in range(200)], 0.05)) for _ in range(families))
    assert 0.02 < false / families < 0.09


def test_a_mean_is_surer_than_its_parts_but_not_without_bound():
    parts = [Change(0.05 + i / 1000, 0.04, 0.02) for i in (-2, 0, 2)]
    mean = pooled(parts)
    assert mean.log_ratio == pytest.approx(0.05)
    assert mean.below == pytest.approx(0.04 * math.sqrt(0.1 + 0.9 / 3))
    assert mean.above == pytest.approx(0.02 * math.sqrt(0.1 + 0.9 / 3))
    assert pooled(parts * 10000).below > 0.04 * math.sqrt(0.1)


def taken(baseline, candidate, half_width=0.01):
    """Times of both sides, seconds, with the speedup that goes with them."""
    speedup = baseline / candidate
    return replace(passed().timing, baseline_s=baseline, candidate_s=candidate, speedup=speedup,
                   speedup_low=speedup * (1 - half_width), speedup_high=speedup * (1 + half_width))


@pytest.mark.parametrize(("baseline", "candidate", "slowdown", "moved"), [
    (1e-3, 1.1e-3, 0.1, False),      # the candidate alone
    (1.3e-3, 1.43e-3, 0.1, False),   # the machine as a whole, and the candidate
    (1e-5, 1e-3, 0.0, True),         # the baseline alone, by 100 times
    (1e-1, 1e-3, 0.0, True),
    (1e-5, 1.2e-3, 0.2, True),       # both: the candidate by its own time
    (1e-1, 1.2e-3, 0.0, True),       # the speedup rose and the candidate took longer: nothing is known
    (0.95e-3, 1.05e-3, 1.05 / 0.95 - 1, False),  # within what times differ by from run to run
])  # fmt: skip
def test_a_baseline_that_moved_is_no_change_of_the_candidate(baseline, candidate, slowdown, moved):
    change = change_between(taken(1e-3, 1e-3), taken(baseline, candidate))
    assert change.slowdown == pytest.approx(slowdown, abs=1e-9)
    assert change.moved is moved


def test_across_machines_times_themselves_say_nothing():
    assert change_between(taken(1e-3, 1e-3), taken(1e-5, 1.1e-5), None).slowdown == pytest.approx(0.1)


def test_the_machines_own_change_is_that_of_most_baselines():
    """A faster machine hides no slower kernel."""
    before = [taken(1e-3 * n, 1e-3 * n) for n in range(1, 7)]
    faster = [taken(0.8e-3 * n, 0.8e-3 * n) for n in range(1, 6)] + [taken(0.1, 1e-3)]
    machine = drift(list(zip(before, faster, strict=True)))
    assert machine == pytest.approx(math.log(0.8))
    assert change_between(before[0], taken(0.8e-3, 0.8 * 1.1e-3), machine).slowdown == pytest.approx(0.1)
    assert change_between(before[0], taken(0.8e-3, 0.8 * 1.1e-3), 0.0).slowdown == 0.0  # were it not known


def test_a_machine_does_not_change_by_much_nor_is_it_known_from_few_shapes():
    assert drift([(taken(1e-3, 1e-3), taken(1e-5, 1e-3))] * 6) == 0.0
    assert drift([(taken(1e-3, 1e-3), taken(0.8e-3, 1e-3))] * 4) == 0.0
    assert drift([]) == 0.0
