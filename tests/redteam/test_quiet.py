"""A verdict that a busy machine may have made is no verdict: synthetic outcomes and figures, no clock."""

import importlib
import os
import subprocess
import sys

import pytest
from redteam import quiet
from redteam.case import all_cases
from redteam.project import Outcome
from redteam.quiet import Neighbours, is_timed, others, rests_on_quiet, run_until_decided
from redteam.table import progress, summary, text, to_json

from fastkernels.results import Verdict

CASES = {case.name: case for case in all_cases()}
LIAR, TWIN, WRONG = CASES["timer_replaced"], CASES["workspace_cache"], CASES["output_by_id"]


def outcome(case, *verdicts, **more):
    return Outcome(case, given=verdicts, **{"next_passed": True, **more})


def neighbours(taken, stolen=(0.0, 0.0), wall_s=10.0):
    """Neighbours whose processes took these CPU seconds, looked at twice, `wall_s` apart."""
    looks, steals, clock = iter(taken), iter(stolen), iter((0.0, wall_s))
    return Neighbours(look=lambda: next(looks), steal=lambda: next(steals), clock=lambda: next(clock))


def cores(*args, **kwargs):
    with neighbours(*args, **kwargs) as measured:
        pass
    return measured.cores


def test_cores_of_others():
    assert cores(({(7, 1.0): 5.0}, {(7, 1.0): 5.0})) == 0
    assert cores(({(7, 1.0): 5.0}, {(7, 1.0): 10.0})) == 0.5
    assert cores(({}, {(8, 3.0): 2.0})) == pytest.approx(0.2)  # it began meanwhile
    assert cores(({(7, 1.0): 90.0}, {(7, 6.0): 1.0})) == pytest.approx(0.1)  # another process of the same number
    assert cores(({(7, 1.0): 90.0}, {})) == 0  # it ended
    assert cores(({}, {}), stolen=(3.0, 8.0)) == 0.5  # the hypervisor's other guests


def test_this_process_and_its_children_are_no_others():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = {pid for pid, _ in others()}
        child.communicate(b"\n")
    assert not found & {os.getpid(), child.pid}
    assert os.getppid() in found


def runs(*outcomes, busy):
    """What comes of a case whose runs give these outcomes while others take so many cores, and what is told."""
    given, loads, told = iter(outcomes), iter(busy), []
    result = run_until_decided(lambda: next(given), told.append,
                               lambda: neighbours(({}, {(1, 1.0): next(loads) * 10.0})))
    return result, told, len(list(given))


ACCEPTED, CAUGHT = outcome(LIAR, Verdict.PASSED), outcome(LIAR, Verdict.TIMING_TAMPERED)
ACCUSED, HONEST = outcome(TWIN, Verdict.TIMING_TAMPERED), outcome(TWIN, Verdict.PASSED)


@pytest.mark.parametrize("wrong", [ACCEPTED, ACCUSED])
def test_on_a_quiet_machine_the_first_run_decides(wrong):
    assert runs(wrong, CAUGHT, busy=[0.05]) == (wrong, [], 1)


@pytest.mark.parametrize(("wrong", "right"), [(ACCEPTED, CAUGHT), (ACCUSED, HONEST)])
def test_on_a_busy_machine_a_wrong_one_runs_again(wrong, right):
    result, told, unused = runs(wrong, right, wrong, busy=[0.6, 0.6])
    assert (result, unused) == (right, 1)
    assert told == [f"{wrong.case.kind}/{wrong.case.name}: {wrong.given[0]} while others took 0.6 of a core: "
                    "try 1 of 3 decides nothing"]
    assert runs(wrong, wrong, right, busy=[0.6, 0.0])[0] == wrong  # the second was quiet, so it decides


@pytest.mark.parametrize("wrong", [ACCEPTED, ACCUSED])
def test_never_quiet_is_undecided_not_right(wrong):
    result, told, _ = runs(wrong, wrong, wrong, busy=[1.5, 0.2, 0.8])
    assert result.undecided == "machine busy: others took 0.8 of a core"
    assert len(told) == 3
    assert not result.right


@pytest.mark.parametrize("wrong", [
    outcome(WRONG, Verdict.CRASHED),                              # replay rests on times, a crash does not
    outcome(LIAR, Verdict.PASSED, problems=("one file changed",)),
    outcome(LIAR, Verdict.PASSED, next_passed=False),
    outcome(LIAR),                                                # no result
    outcome(TWIN, Verdict.WRONG_VALUES),
    outcome(TWIN, Verdict.TIMING_TAMPERED, Verdict.WRONG_VALUES),
    outcome(CASES["baseline_by_import"], Verdict.PASSED),         # not of a class that rests on times
    outcome(CASES["bf16_accumulation"], Verdict.PASSED),          # without timing
])
def test_a_busy_machine_excuses_nothing_else(wrong):
    assert not rests_on_quiet(wrong)
    assert runs(wrong, busy=[2.0]) == (wrong, [], 0)


def test_undecided_is_counted_apart_and_told_loudly():
    undecided, _, _ = runs(ACCEPTED, ACCEPTED, ACCEPTED, busy=[1.0] * 3)
    lines = summary([undecided, HONEST]).splitlines()
    assert lines[0].startswith("0 adversaries: 0 accepted, 0 of 0 with an expected verdict; 1 twins: 1 accepted")
    assert lines[1].startswith("UNDECIDED: 1, counted nowhere above")
    assert lines[2] == "  clock/timer_replaced: passed (machine busy: others took 1.0 of a core)"
    assert "UNDECIDED" in progress(undecided, 1, 1)
    assert "passed (UNDECIDED, machine busy" in text([undecided])
    assert '"undecided": "machine busy' in to_json([undecided], {})


def test_an_undecided_case_fails_no_run_and_a_decided_one_does(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the runner, a script, changes it
    runner = importlib.import_module("redteam.run")
    undecided, _, _ = runs(ACCEPTED, ACCEPTED, ACCEPTED, busy=[1.0] * 3)
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
        return Outcome(case, given=case.expect[:1], next_passed=True)

    monkeypatch.setattr(runner, "run_case", run_case)
    monkeypatch.setattr(quiet, "others", dict)
    cases = [case for case in CASES.values() if case.kind in ("clock", "numerics") and "cuda" not in case.needs]
    outcomes = runner.run_all(cases, "cpu", 2, lambda _: None)
    assert [one.case for one in outcomes] == cases
    order = [is_timed(case) for case, _ in seen]
    assert order == sorted(order)
    assert {len(beside) for case, beside in seen if is_timed(case)} == {1}
    assert {len(beside) for case, beside in seen if not is_timed(case)} == {1, 2}
