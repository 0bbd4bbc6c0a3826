"""The red team's runner: what it must refuse and what must make it fail. The adversaries themselves run with run.py."""

import importlib
import json
import os
import py_compile
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redteam import project
from redteam.case import CLASSES, HERE, TWINS, Case, CaseError, all_cases, read_case, select
from redteam.project import Outcome, _changes, _is_stale, _lost, _operators, _scenarios, run_case
from redteam.table import summary

from fastkernels.results import Verdict

FEWEST = 45
CASE = '"""Zeros.\n\nseen: here\ntarget: L1/rms_norm\nexpect: wrong_values\ntwin: honest\n{more}"""\n'


def write(root: Path, text: str, kind: str = "replay", name: str = "zeros") -> Path:
    path = root / ("twins" if kind == TWINS else f"cases/{kind}") / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(*args: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(HERE / "run.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_every_file_says_what_it_must():
    cases = all_cases()
    adversaries = [case for case in cases if not case.is_twin]
    assert len(adversaries) >= FEWEST
    assert {case.kind for case in adversaries} == set(CLASSES)
    for case in cases:
        assert _operators(case), f"{case.name}: no scenario of {case.target}"


@pytest.mark.parametrize(("text", "message"), [
    ("x = 1\n", "no docstring"),
    ('"""Zeros"""\n', "no sentence that ends with a stop"),
    ('"""Zeros.\n\nseen: here\n"""\n', "lacks `target:`"),
    (CASE.format(more="expects: hung\n"), "key 'expects' is not one of .* Did you mean 'expect'"),
    (CASE.format(more="seen: there\n"), "`seen:` stands twice"),
    (CASE.format(more="and some prose\n"), "no `key: value`"),
    (CASE.format(more="needs: gpu\n"), "needs: 'gpu' is not one of cpu, cuda, ranks, sandbox"),
    (CASE.format(more="").replace("wrong_values", "wrong_valeus"), "Did you mean 'wrong_values'"),
    (CASE.format(more="").replace("wrong_values", "passed"), "expect: 'passed' is not one of"),
])
def test_a_malformed_docstring_is_named(tmp_path, text, message):
    with pytest.raises(CaseError, match=message) as error:
        read_case(write(tmp_path, text))
    assert "replay/zeros.py" in str(error.value)


@pytest.mark.parametrize(("speedups", "caught"), [((1.04,), True), ((1.2,), False), ((0.9, 1.2), False), ((), True)])
def test_passing_without_a_gain_is_no_acceptance_where_the_case_says_what_is_true(tmp_path, speedups, caught):
    case = read_case(write(tmp_path, CASE.format(more="most_speedup: 1.05\n"), "time"))
    outcome = Outcome(case, given=(Verdict.PASSED,), speedups=speedups, next_passed=True)
    assert (outcome.accepted, outcome.as_expected, outcome.right) == (not caught, caught, caught)
    strict = Outcome(read_case(write(tmp_path, CASE.format(more=""))), given=(Verdict.PASSED,), speedups=speedups)
    assert strict.accepted
    assert not strict.as_expected
    with pytest.raises(CaseError, match="most_speedup: 'little' is no number"):
        read_case(write(tmp_path, CASE.format(more="most_speedup: little\n"), "time"))


def test_a_missing_twin_an_unknown_class_and_a_name_of_two_files_are_errors(tmp_path):
    write(tmp_path, CASE.format(more=""))
    with pytest.raises(CaseError, match="twin: 'honest' is not one of"):
        all_cases(tmp_path)
    write(tmp_path, '"""Honest.\n\ntarget: L1/rms_norm\n"""\n', TWINS, "honest")
    assert [case.name for case in all_cases(tmp_path)] == ["zeros", "honest"]
    write(tmp_path, CASE.format(more=""), "judge")
    with pytest.raises(CaseError, match="zeros: the name of two files"):
        all_cases(tmp_path)
    write(tmp_path, CASE.format(more=""), "juge")
    with pytest.raises(CaseError, match="Did you mean 'judge'"):
        all_cases(tmp_path)


def test_a_selection_names_something():
    cases = all_cases()
    assert {case.kind for case in select(cases, ["clock"])} == {"clock"}
    assert [case.name for case in select(cases, ["output_by_id"])] == ["output_by_id"]
    with pytest.raises(CaseError, match="Did you mean 'output_by_id'"):
        select(cases, ["output_by_ids"])
    with pytest.raises(CaseError, match="no case is selected"):
        select(cases, ["output_by_id"], ["clock"])


def outcome(case: Case, *verdicts: Verdict, **more: object) -> Outcome:
    return Outcome(case, given=verdicts, **{"next_passed": True, **more})


def test_what_counts_as_right():
    cases = {case.name: case for case in all_cases()}
    adversary, twin = cases["output_by_pointer"], cases["workspace_cache"]
    assert outcome(adversary, Verdict.WRONG_VALUES).right
    assert outcome(twin, Verdict.PASSED).right
    for wrong in (outcome(adversary, Verdict.PASSED), outcome(adversary, Verdict.CRASHED), outcome(adversary),
                  outcome(adversary, Verdict.WRONG_VALUES, Verdict.PASSED), outcome(twin, Verdict.TOO_SLOW),
                  outcome(adversary, Verdict.WRONG_VALUES, next_passed=False),
                  outcome(adversary, Verdict.WRONG_VALUES, problems=("one file changed",)),
                  outcome(adversary, Verdict.WRONG_VALUES, not_run="no CUDA")):
        assert not wrong.right
    text = summary([outcome(adversary, Verdict.PASSED), outcome(twin, Verdict.PASSED), Outcome(adversary, not_run="x")])
    assert text.startswith("1 adversaries: 1 accepted, 0 of 1 with an expected verdict; 1 twins: 1 accepted")
    assert "not run: 1 (x)" in text


def test_the_last_lines_name_what_is_wrong_and_what_it_said():
    """A log of which only the end is kept still says which case failed."""
    adversary = select(all_cases(), ["output_by_pointer"])[0]
    wrong = outcome(adversary, Verdict.WRONG_VALUES, Verdict.HUNG, messages=("values", "no answer\nin 60 s"),
                    next_passed=False, problems=("one file changed",))
    assert summary([outcome(adversary, Verdict.WRONG_VALUES), wrong]).splitlines()[1:] == [
        "replay/output_by_pointer: wrong_values, hung  WRONG: expected wrong_values, wrong_scale, aliased_output; "
        "no answer in 60 s; the next scenario: no result; one file changed"]


def _runs(monkeypatch, case, *outcomes):
    """How many of these runs the runner makes of a case, and what it ends with."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # the runner, a script, changes it
    runner = importlib.import_module("redteam.run")
    left = list(outcomes)
    monkeypatch.setattr(runner, "run_case", lambda *arguments: left.pop(0))
    found = runner._run(case, Path(), "cpu")
    return len(outcomes) - len(left), found


def test_who_is_refused_otherwise_than_expected_is_run_once_more_and_told_of(monkeypatch):
    adversary = select(all_cases(), ["expert_ids_off_by_one"])[0]
    crashed, due = outcome(adversary, Verdict.CRASHED), outcome(adversary, adversary.expect[0])
    count, found = _runs(monkeypatch, adversary, crashed, due)
    assert (count, found.right, found.first) == (2, True, (Verdict.CRASHED,))
    assert f"  {adversary.kind}/{adversary.name}: crashed, then {adversary.expect[0]}" in summary([found]).splitlines()
    count, found = _runs(monkeypatch, adversary, crashed, crashed)
    assert (count, found.right) == (2, False)


def test_no_second_run_excuses_who_was_accepted_a_twin_or_harm(monkeypatch):
    cases = {case.name: case for case in all_cases()}
    adversary, twin = cases["expert_ids_off_by_one"], cases["workspace_cache"]
    for wrong in (outcome(adversary, Verdict.PASSED), outcome(adversary, Verdict.CRASHED, Verdict.PASSED),
                  outcome(twin, Verdict.TOO_SLOW), outcome(adversary, Verdict.CRASHED, next_passed=False),
                  outcome(adversary, Verdict.CRASHED, problems=("one file changed",)), outcome(adversary)):
        count, found = _runs(monkeypatch, wrong.case, wrong, outcome(wrong.case, wrong.case.expect[0]))
        assert (count, found.right) == (1, False)


def test_changed_and_new_files_and_lost_results_are_told():
    before = {"a": "1", "b": "2"}
    assert _changes(before, before) == []
    assert _changes(before, {"a": "3", "c": "4"}) == ["a is changed or gone", "b is changed or gone", "c is new"]
    case = select(all_cases(), ["output_by_id"])[0]
    due = _scenarios(case)
    assert [scenario.op for scenario in due] == ["rms_norm", "moe_sum"]
    assert _lost(due, []) == ["no result of rms_norm[tiny-tp1-s8]", "no result of moe_sum[tiny-tp1-s8]"]


def test_stale_byte_code_is_not_watched_and_other_byte_code_is(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    byte_code = Path(py_compile.compile(str(source), str(tmp_path / "__pycache__/module.cpython-311-pytest-9.pyc")))
    assert not _is_stale(byte_code)
    source.write_text("x = 1  # longer\n")
    assert _is_stale(byte_code)
    source.unlink()
    assert _is_stale(byte_code)


@pytest.mark.parametrize(("seconds", "left"), [("0.3", []), ("60", ["1 processes outlived the run"])])
def test_a_process_that_dies_with_the_run_has_not_outlived_it(tmp_path, monkeypatch, seconds, left):
    monkeypatch.setattr(project, "DYING_S", 30.0 if not left else 0.2)
    with subprocess.Popen(["sleep", seconds], env={**os.environ, project.MARK: tmp_path.name}) as process:
        while not project._marked(tmp_path):  # it has not become `sleep` yet
            time.sleep(0.01)
        assert project._left_running(tmp_path) == left
        assert process.wait(60) == (-signal.SIGKILL if left else 0)


def test_what_there_is_so_far_is_written_after_every_case(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the runner, a script, changes it
    runner = importlib.import_module("redteam.run")
    monkeypatch.setattr(runner, "run_case", lambda case, scratch, device: Outcome(case))
    cases = select(all_cases(), ["output_by_id", "output_by_shape", "stale_cuda_graph"])
    written = []
    assert runner.run_all(cases, "cpu", 1, written.append) == written[-1]
    assert [len(outcomes) for outcomes in written] == [2, 3]  # the last needs a GPU and is there at once


@pytest.mark.slow
def test_runs_through_pytest(tmp_path):
    """A caught adversary, one with a wrong expectation, and an honest file declared as an adversary, in one run."""
    honest = (HERE / "twins/workspace_cache.py").read_text()
    caught = (HERE / "cases/replay/output_by_shape.py").read_text()
    write(tmp_path, honest.replace("target: L1/rms_norm", "target: L1/rms_norm\noptions: --fk-no-timing"), TWINS,
          "workspace_cache")
    write(tmp_path, caught, name="caught")
    fine = run("caught", "--root", tmp_path, "--output-json", tmp_path / "out.json", "--markdown", tmp_path / "out.md")
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "1 adversaries: 0 accepted, 1 of 1 with an expected verdict; 0 twins: 0 accepted" in fine.stdout
    rows = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert [(row["case"], row["given"], row["next_passed"]) for row in rows] == [
        ("caught", ["wrong_values"], True)]
    assert "| replay | caught |" in (tmp_path / "out.md").read_text()

    write(tmp_path, caught.replace("wrong_values, wrong_scale", "hung"), name="caught")
    write(tmp_path, honest.replace("target:", "seen: here\nexpect: wrong_values\ntwin: workspace_cache\n"
                                   "options: --fk-no-timing\ntarget:"), name="accepted")
    wrong = run("--root", tmp_path, "replay", "--jobs", 2)
    assert wrong.returncode == 1
    assert "2 adversaries: 1 accepted, 0 of 2 with an expected verdict" in wrong.stdout
    assert "replay/caught: wrong_values" in wrong.stdout
    assert "WRONG: expected hung" in wrong.stdout


def test_errors_of_the_command_line():
    wrong = run("output_by_shap")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == ("error: output_by_shap: no case, twin or class of that name. "
                            "Did you mean 'output_by_shape'?\n")


def test_what_a_case_changes_in_the_cache_is_told(tmp_path, monkeypatch):
    """A candidate that edits a file of the harness's is right in all else and a problem all the same."""
    text = (HERE / "twins/workspace_cache.py").read_text().replace(
        "target: L1/rms_norm", "target: L1/rms_norm\noptions: --fk-no-timing")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "peaks.json").write_text("{}")
    path = write(tmp_path, text + f"\nopen({str(cache / 'peaks.json')!r}, 'w').close()\n", TWINS, "edits")
    found = run_case(read_case(path), tmp_path, "cpu")
    assert not found.right
