"""The comparison of two runs: every status, what fails, what cannot be compared, and that chance fails nothing."""

import math
import random
from dataclasses import replace

import pytest

from fastkernels.report import compare
from fastkernels.report.compare import Status
from fastkernels.report.comparison_text import as_data, as_text
from fastkernels.results import LeftOut, Noise, Verdict

PASSED, TOO_SLOW, WRONG, CRASHED = Verdict.PASSED, Verdict.TOO_SLOW, Verdict.WRONG_VALUES, Verdict.CRASHED


def timed(result, speedup, half_width=0.005):
    """The scenario with this speedup, its interval and a candidate's time that goes with it."""
    t = result.timing
    return replace(result, timing=replace(
        t, speedup=speedup, speedup_low=speedup * (1 - half_width), speedup_high=speedup * (1 + half_width),
        candidate_s=t.baseline_s / speedup))


def only(found):
    assert len(found.pairs) == 1
    return found.pairs[0]


@pytest.mark.parametrize(("before", "now", "status", "fails"), [
    (PASSED, PASSED, Status.SAME, False),
    (PASSED, WRONG, Status.NEWLY_FAILING, True),
    (PASSED, TOO_SLOW, Status.NEWLY_FAILING, True),
    (PASSED, Verdict.TIMING_TAMPERED, Status.NEWLY_FAILING, True),
    (PASSED, Verdict.TASK_INVALID, Status.NEWLY_FAILING, True),
    (TOO_SLOW, CRASHED, Status.NEWLY_FAILING, True),
    (TOO_SLOW, TOO_SLOW, Status.SAME, False),
    (TOO_SLOW, PASSED, Status.NEWLY_PASSING, False),
    (WRONG, PASSED, Status.NEWLY_PASSING, False),
    (WRONG, TOO_SLOW, Status.VERDICT_CHANGED, False),
    (WRONG, CRASHED, Status.VERDICT_CHANGED, False),
    (WRONG, WRONG, Status.STILL_FAILING, False),
])
def test_verdicts(graded, run_of, before, now, status, fails):
    found = compare(run_of(graded(verdict=before)), run_of(graded(verdict=now, message="x")))
    assert only(found).status is status
    assert bool(found.failures) is fails


@pytest.mark.parametrize(("factor", "status"), [
    (1.05, Status.SLOWER), (1.02, Status.SAME), (1 / 1.02, Status.SAME), (1 / 1.05, Status.FASTER)])
def test_times_beyond_the_limit(graded, run_of, factor, status):
    base = timed(graded(), 1.5)
    found = compare(run_of(base), run_of(timed(base, 1.5 / factor)))
    assert only(found).status is status
    assert only(found).change.slowdown == pytest.approx(factor - 1)
    assert found.failures == (["1 scenario slower"] if factor > 1.03 else [])


def test_the_limit_is_the_users(graded, run_of):
    base = timed(graded(), 1.5)
    runs = run_of(base), run_of(timed(base, 1.5 / 1.05))
    assert compare(*runs, 0.03).failures
    assert not compare(*runs, 0.045).failures  # 0.5 % away with intervals of 0.7 %
    assert not compare(*runs, 0.10).failures
    assert compare(run_of(base), run_of(timed(base, 1.5 / 1.01)), 0.0).failures


def test_what_the_intervals_cannot_tell_is_the_same(graded, run_of):
    base = timed(graded(), 1.5, half_width=0.05)
    assert only(compare(run_of(base), run_of(timed(base, 1.5 / 1.05, half_width=0.05)))).status is Status.SAME
    assert only(compare(run_of(base), run_of(timed(base, 1.5 / 1.5, half_width=0.05)))).status is Status.SLOWER


def test_a_slower_baseline_and_a_slower_candidate_are_no_slowdown(graded, run_of):
    base = timed(graded(), 1.5)
    t = base.timing
    later = replace(base, timing=replace(t, baseline_s=t.baseline_s * 1.3, candidate_s=t.candidate_s * 1.3))
    assert only(compare(run_of(base), run_of(later))).status is Status.SAME


def noisy(graded, rng, spread, op="rms_norm", count=60, factor=1.0, where=lambda tokens: True):
    """Shapes of one operator, each with an error of the size that its interval says."""
    return [timed(graded(op, tokens=tokens, tp=tp), math.exp(rng.gauss(0, spread / 1.96)) / (
        factor if where(tokens) else 1.0), spread) for tp in (1, 2, 4, 8) for tokens in range(1, count // 4 + 1)]


def test_what_no_shape_shows_their_mean_does(graded, run_of):
    rng = random.Random(3)
    base, new = noisy(graded, rng, 0.03), noisy(graded, rng, 0.03, factor=1.06)
    found = compare(run_of(*base), run_of(*new))
    assert found.counts[Status.SLOWER] == 0
    assert [group.name for group in found.telling_groups] == ["rms_norm"]
    assert found.failures == ["slower in the mean over the shapes: rms_norm"]
    assert found.telling_groups[0].shapes == 60


def test_a_part_that_is_slower_is_named(graded, run_of):
    rng = random.Random(3)
    base = noisy(graded, rng, 0.01)
    new = noisy(graded, rng, 0.01, factor=1.08, where=lambda tokens: tokens == 7)
    found = compare(run_of(*base), run_of(*new))
    assert [group.name for group in found.telling_groups] == ["rms_norm (7 tokens)"]


def test_thousands_of_equal_kernels_fail_nothing(graded, run_of):
    rng = random.Random(5)
    base, new = (run_of(*(item for op in map("op{}".format, range(10)) for item in noisy(graded, rng, 0.02, op, 320)))
                 for _ in range(2))
    found = compare(base, new, 0.0)
    assert len(found.pairs) == 3200
    assert found.failures == []
    assert found.counts == {Status.SAME: 3200}
    assert sum(pair.change.low > 0 for pair in found.pairs) > 40  # as a gate on each interval alone would have it


def test_one_measurement_under_many_addresses_counts_once(graded, run_of):
    base = [timed(graded(model=f"m{i}"), 1.5, 0.02) for i in range(50)]
    new = [timed(item, 1.5 / 1.06, 0.02) for item in base]
    found = compare(run_of(*base), run_of(*new))
    assert found.groups == ()
    alone = compare(run_of(base[0]), run_of(new[0]))
    assert {pair.status for pair in found.pairs} == {only(alone).status}
    slower = compare(run_of(*base), run_of(*(timed(item, 1.0, 0.02) for item in base)))
    assert slower.counts[Status.SLOWER] == 50
    assert [(pair.known.id, others) for pair, others in slower.distinct(Status.SLOWER)] == [(base[0].id, 49)]


def test_a_scenario_that_is_gone_fails_and_says_why(graded, run_of):
    base = run_of(graded(), graded(tokens=16))
    found = compare(base, run_of(graded(), left_out=(LeftOut(graded(tokens=16).id, "no room"),)))
    assert [(pair.known.tokens, pair.reason) for pair in found.having(Status.GONE)] == [(16, "no room")]
    assert found.failures == ["1 scenario gone"]
    assert compare(base, run_of(graded()), allow_missing=True).failures == []


def test_a_new_scenario_is_no_failure_even_where_it_fails(graded, run_of):
    found = compare(run_of(graded()), run_of(graded(), graded(tokens=16, verdict=CRASHED, message="SIGSEGV")))
    assert [(pair.known.tokens, pair.reason) for pair in found.having(Status.NEW)] == [(16, "SIGSEGV")]
    assert found.failures == []


def test_another_shape_is_no_fair_pair(graded, run_of):
    base, new = (graded(), graded(tokens=16)), (timed(graded(shape_key="other"), 0.1), graded(tokens=16))
    found = compare(run_of(*base), run_of(*new))
    assert [pair.reason for pair in found.having(Status.NOT_COMPARABLE)] == ["another shape"]
    assert found.failures == []


def test_a_failure_counts_in_another_shape_too(graded, run_of):
    found = compare(run_of(graded()), run_of(graded(shape_key="other", verdict=CRASHED)))
    assert only(found).status is Status.NEWLY_FAILING


@pytest.mark.parametrize(("changes", "said"), [
    ({"baseline_provider": "vllm"}, "baseline triton -> vllm"),
    ({"self_test": True}, "candidate -> self-test"),
    ({"device": "cpu"}, "device cuda -> cpu"),
    ({"method": "cuda_graph"}, "timed by cupti -> cuda_graph"),
    ({"speedup_low": math.nan}, "a speedup that is no number"),
])
def test_what_was_timed_otherwise_is_not_compared(graded, run_of, changes, said):
    new = timed(graded(), 0.5)
    in_timing = {key: value for key, value in changes.items() if hasattr(new.timing, key)}
    others = {key: value for key, value in changes.items() if key not in in_timing}
    new = replace(new, timing=replace(new.timing, **in_timing), **others)
    pair = only(compare(run_of(graded()), run_of(new)))
    assert (pair.status, pair.reason, pair.change) == (Status.NOT_COMPARABLE, said, None)


def gpu(name, **others):
    return {"gpu": {"name": name, **others}, "machine": {"cpu": "Xeon", "threads": 4}}


def test_another_gpu_is_not_compared_and_fails(graded, run_of):
    base, new = run_of(graded(), environment=gpu("H200")), run_of(timed(graded(), 0.5), environment=gpu("H100"))
    found = compare(base, new)
    assert only(found).status is Status.NOT_COMPARABLE
    assert found.failures == ["no scenario's times can be compared"]
    assert found.differences == ("GPU H200 -> H100",)
    across = compare(base, new, across_machines=True)
    assert only(across).status is Status.SLOWER
    assert across.differences == ("GPU H200 -> H100",)


def test_a_verdict_counts_on_another_gpu_too(graded, run_of):
    found = compare(run_of(graded(), environment=gpu("H200")), run_of(graded(verdict=WRONG), environment=gpu("H100")))
    assert only(found).status is Status.NEWLY_FAILING


@pytest.mark.parametrize(("field", "value"), [("cpu", "EPYC"), ("threads", 8)])
def test_the_cpu_counts_on_a_cpu_alone(graded, run_of, field, value):
    here = {**gpu("H200"), "machine": {"cpu": "Xeon", "threads": 4, field: value}}
    for device, status in (("cpu", Status.NOT_COMPARABLE), ("cuda", Status.SAME)):
        result = graded(device=device)
        assert only(compare(run_of(result, environment=gpu("H200")), run_of(result, environment=here))).status is status


def test_other_conditions_are_notes(graded, run_of):
    before = {**gpu("H200", driver="580", power_limit_w=700.0), "versions": {"torch": "2.11"}}
    now = {**gpu("H200", driver="581", power_limit_w=600.0), "versions": {"torch": "2.13"}}
    found = compare(run_of(graded(), environment=before, settings={"num_runs": 100, "seed": 1}),
                    run_of(graded(), environment=now, settings={"num_runs": 50, "seed": 2}))
    assert found.notes == ("driver 580 -> 581", "power limit (W) 700 -> 600", "torch 2.11 -> 2.13",
                           "option num_runs 100 -> 50")
    assert found.failures == []


def test_losing_the_times_fails_and_never_having_had_them_does_not(graded, run_of):
    plain = graded(timing=None)
    assert only(compare(run_of(graded()), run_of(plain))).status is Status.NO_LONGER_TIMED
    assert compare(run_of(graded()), run_of(plain)).failures == ["1 scenario no longer timed"]
    assert compare(run_of(plain), run_of(plain)).failures == []
    gained = compare(run_of(plain), run_of(graded()))
    assert only(gained).status is Status.NOT_COMPARABLE
    assert gained.failures == ["no scenario's times can be compared"]


def test_runs_without_a_common_scenario_fail(graded, run_of):
    found = compare(run_of(graded()), run_of(graded("linear")), allow_missing=True)
    assert found.failures == ["no scenario is in both files"]


def test_one_comparable_scenario_is_enough(graded, run_of):
    base = run_of(graded(), graded(tokens=16))
    new = run_of(graded(), graded(tokens=16, baseline_provider="vllm"))
    assert compare(base, new).failures == []


def test_of_two_results_for_one_address_the_failure_counts(graded, run_of):
    for results in ((graded(), graded(verdict=WRONG)), (graded(verdict=WRONG), graded())):
        assert only(compare(run_of(graded()), run_of(*results))).status is Status.NEWLY_FAILING


def test_levels_are_kept_apart(graded, run_of):
    found = compare(run_of(graded(), graded(level=2)), run_of(graded(), graded(level=2, verdict=WRONG)))
    assert [pair.status for pair in found.pairs] == [Status.SAME, Status.NEWLY_FAILING]


NAMES = ("a.json", "b.json")


def untimed(result, **changes):
    return replace(result, timing=None, noise=Noise("other load disturbed 9 of 12 rounds", 12, 9, 1.8), **changes)


@pytest.mark.parametrize(("before", "now"), [(False, True), (True, False), (True, True)])
def test_noisy_scenarios_are_named_and_not_counted(graded, run_of, before, now):
    base, new = (untimed(graded()) if is_noisy else graded() for is_noisy in (before, now))
    found = compare(run_of(base), run_of(new))
    assert only(found).status is Status.NOISY
    assert not found.failures
    text = as_text(found, NAMES)
    assert "noisy (1)" in text
    assert "other load disturbed 9 of 12 rounds" in text
    assert "No time was compared: the machine was busy." in " ".join(text.split())


def test_noise_hides_no_verdict(graded, run_of):
    found = compare(run_of(untimed(graded())), run_of(graded(verdict=WRONG, message="x")))
    assert only(found).status is Status.NEWLY_FAILING
    assert only(compare(run_of(graded(verdict=WRONG)), run_of(untimed(graded())))).status is Status.NEWLY_PASSING


def test_a_demanded_speedup_that_noise_left_open_is_untimed(graded, run_of):
    found = compare(run_of(graded()), run_of(untimed(graded(), verdict=TOO_SLOW)))
    assert (only(found).status, found.failures) == (Status.NOISY, [])


def test_a_missing_time_without_noise_still_fails(graded, run_of):
    assert compare(run_of(graded()), run_of(replace(graded(), timing=None))).failures


def test_times_that_contradict_themselves_are_noise(graded, run_of):
    """From results of older versions: medians of 57.4 and 48.8 us, and 8.03x [0.27, 243]."""
    base = graded()
    broken = replace(base, timing=replace(base.timing, baseline_s=57.4e-6, candidate_s=48.8e-6, speedup=8.03,
                                          speedup_low=0.27, speedup_high=243.0))
    assert only(compare(run_of(base), run_of(broken))).status is Status.NOISY


@pytest.mark.parametrize("factor", [100, 1 / 100])
@pytest.mark.parametrize("others", [0, 8])
def test_a_baseline_that_moved_fails_nothing_and_is_named(graded, run_of, factor, others):
    rest = [timed(graded(tokens=100 + n), 1.5) for n in range(others)]
    base = timed(graded(), 1.5)
    t = base.timing
    moved = replace(base, timing=replace(
        t, baseline_s=t.baseline_s * factor, speedup=t.speedup * factor, speedup_low=t.speedup_low * factor,
        speedup_high=t.speedup_high * factor))
    found = compare(run_of(base, *rest), run_of(moved, *rest))
    assert found.counts == {Status.BASELINE_MOVED: 1, **({Status.SAME: others} if others else {})}
    assert not found.failures
    assert all(group.status is Status.SAME for group in found.groups)
    assert "baseline moved (1)" in as_text(found, NAMES)
    assert as_data(found, NAMES)["counts"]["baseline moved"] == 1


def test_a_candidate_that_got_slower_beside_a_baseline_that_moved_still_fails(graded, run_of):
    base = timed(graded(), 1.5)
    t = base.timing
    now = replace(base, timing=replace(t, baseline_s=t.baseline_s / 100, candidate_s=t.candidate_s * 1.2,
                                       speedup=t.speedup / 120, speedup_low=t.speedup_low / 120,
                                       speedup_high=t.speedup_high / 120))
    found = compare(run_of(base), run_of(now))
    assert found.failures == ["1 scenario slower"]
    assert only(found).change.slowdown == pytest.approx(0.2)
