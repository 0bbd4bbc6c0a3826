"""Where a busy machine left an adversary of times without one, nothing is decided: synthetic outcomes, no clock."""

import importlib
import sys

import pytest
from redteam.case import all_cases
from redteam.project import Outcome
from redteam.quiet import is_timed, rests_on_quiet, run_until_decided
from redteam.table import progress, summary, text, to_json

from fastkernels.results import Verdict

CASES = {case.name: case for case in all_cases()}
LIAR, TWIN, WRONG = CASES["timer_replaced"], CASES["workspace_cache"], CASES["output_by_id"]


BUSY = "other load disturbed 9 of 12 rounds"


def outcome(case, *verdicts, noise="", **more):
    return Outcome(case, given=verdicts, noise=(noise,) * len(verdicts), **{"next_passed": True, **more})


def runs(*outcomes):
    """What comes of a case whose runs give these outcomes, what is told, and how many were not needed."""
    given, told = iter(outcomes), []
    result = run_until_decided(lambda: next(given), told.append)
    return result, told, len(list(given))


ACCEPTED, CAUGHT = outcome(LIAR, Verdict.PASSED), outcome(LIAR, Verdict.TIMING_TAMPERED)
UNTIMED = outcome(LIAR, Verdict.PASSED, noise=BUSY)
ACCUSED, HONEST = outcome(TWIN, Verdict.TIMING_TAMPERED), outcome(TWIN, Verdict.PASSED)


@pytest.mark.parametrize("wrong", [ACCEPTED, ACCUSED])
def test_what_was_timed_is_decided_by_the_first_run(wrong):
    """However busy the machine was: the grader answers for what it gives as a time."""
    assert runs(wrong, CAUGHT) == (wrong, [], 1)


def test_what_was_not_timed_runs_again():
    result, told, unused = runs(UNTIMED, CAUGHT, UNTIMED)
    assert (result, unused) == (CAUGHT, 1)
    assert told == [f"clock/timer_replaced: noisy ({BUSY}): try 1 of 3 decides nothing"]
    assert runs(UNTIMED, ACCEPTED, CAUGHT)[0] == ACCEPTED  # the second was timed, so it decides


def test_never_timed_is_undecided_not_right_and_gained_nothing():
    result, told, _ = runs(UNTIMED, UNTIMED, UNTIMED)
    assert result.undecided == f"machine busy: {BUSY}"
    assert len(told) == 3
    assert not result.right
    assert not result.accepted


def test_a_twin_without_a_time_is_accepted_all_the_same():
    untimed = outcome(TWIN, Verdict.PASSED, noise=BUSY)
    assert runs(untimed) == (untimed, [], 0)
    assert untimed.right


@pytest.mark.parametrize("wrong", [
    outcome(WRONG, Verdict.CRASHED),
    outcome(LIAR, Verdict.PASSED, noise=BUSY, problems=("one file changed",)),
    outcome(LIAR, Verdict.PASSED, noise=BUSY, next_passed=False),
    outcome(LIAR),                                                            # no result
    outcome(TWIN, Verdict.WRONG_VALUES),
    Outcome(LIAR, given=(Verdict.PASSED,) * 2, noise=(BUSY, ""), next_passed=True),   # one was timed, and accepted
    outcome(CASES["baseline_by_import"], Verdict.PASSED, noise=BUSY),         # not of a class that rests on times
    outcome(CASES["bf16_accumulation"], Verdict.PASSED),                      # without timing
])
def test_noise_excuses_nothing_else(wrong):
    assert not rests_on_quiet(wrong)
    assert runs(wrong) == (wrong, [], 0)


def test_undecided_is_counted_apart_and_told_loudly():
    undecided, _, _ = runs(UNTIMED, UNTIMED, UNTIMED)
    lines = summary([undecided, HONEST]).splitlines()
    assert lines[0].startswith("0 adversaries: 0 accepted, 0 of 0 with an expected verdict; 1 twins: 1 accepted")
    assert lines[1].startswith("UNDECIDED: 1, counted nowhere above")
    assert lines[2] == "  clock/timer_replaced: passed (machine busy: other load disturbed 9 of 12 rounds)"
    assert "UNDECIDED" in progress(undecided, 1, 1)
    assert "passed (UNDECIDED, machine busy" in text([undecided])
    assert '"undecided": "machine busy' in to_json([undecided], {})


def test_an_undecided_case_fails_no_run_and_a_decided_one_does(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the runner, a script, changes it
    runner = importlib.import_module("redteam.run")
    undecided, _, _ = runs(UNTIMED, UNTIMED, UNTIMED)
    assert runner.exit_status([undecided, HONEST]) == 0
    assert runner.exit_status([undecided, ACCEPTED]) == 1
    assert runner.exit_status([Outcome(LIAR, not_run="no GPU")]) == 1


def test_timed_cases_run_alone_after_the_others(monkeypatch):
    """Two at a time of those without timing; a timed one never beside another."""
    import threading
    from time import sleep

    monkeypatch.setattr(sys, "path", list(sys.path))
    runner = importlib.import_module("redteam.run")
    running, seen, lock = set(), [], threading.Lock()

    def run_case(case, scratch, device):
        with lock:
            running.add(case.name)
            seen.append((case, frozenset(running)))
        sleep(0.02)
        with lock:
            running.remove(case.name)
        return Outcome(case, given=case.expect[:1], noise=("",), next_passed=True)

    monkeypatch.setattr(runner, "run_case", run_case)
    cases = [case for case in CASES.values() if case.kind in ("clock", "numerics") and "cuda" not in case.needs]
    outcomes = runner.run_all(cases, "cpu", 2, lambda _: None)
    assert [one.case for one in outcomes] == cases
    order = [is_timed(case) for case, _ in seen]
    assert order == sorted(order)
    assert {len(beside) for case, beside in seen if is_timed(case)} == {1}
    assert {len(beside) for case, beside in seen if not is_timed(case)} == {1, 2}
