"""Whatever ends a run from outside: what was finished is on disk, in the table and in the exit status, once."""

import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from ended_runs import FINISHED, HANGING, HANGS_AT_32, SELECTED, Running, logged, verdicts
from heeded import ENDING, heed_signals
from suite import exhaustive

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import load_manifest

INTERRUPTED_REPORT = """\
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    if report.when == "call":
        raise KeyboardInterrupt
"""


@pytest.fixture
def hanging(bare, warm):
    """A project whose candidate hangs once four scenarios are finished."""
    bare.candidate(text=HANGS_AT_32)
    return bare


@pytest.fixture
def scenarios(bare, warm):
    return {scenario.id: scenario for scenario in load_manifest(bare.path / "tiny.yaml").scenarios()}


@pytest.mark.parametrize(("signum", "group", "status", "mode"), [
    (signal.SIGINT, True, 2, ()),
    (signal.SIGTERM, False, 143, ()),
    (signal.SIGINT, True, 2, ("-n2",)),
    *exhaustive((signal.SIGTERM, True, 143, ("-n2",)), (signal.SIGTERM, False, 143, ("-n2",)),
                (signal.SIGINT, False, 2, ()), (signal.SIGHUP, True, 129, ()))])
def test_a_signal_keeps_what_was_finished(hanging, signum, group, status, mode):
    run = Running(hanging.path, *SELECTED, *mode)
    run.wait_for_lines(len(FINISHED))
    assert run.end(signum, group) == status
    assert verdicts(hanging.results()) == dict.fromkeys(FINISHED, "passed")
    assert {left["id"] for left in hanging.results()["left_out"]} >= HANGING
    assert hanging.results()["environment"]["machine"]
    assert "Traceback" not in run.output()
    assert "graded 4 scenarios (2 shapes) on cpu in " in run.output()
    assert "\nseed: " in run.output()
    assert "\nresults: bench/results/kernels.json\n" in run.output()


def test_what_was_finished_before_a_kill_is_kept_and_resumed(hanging):
    run = Running(hanging.path, *SELECTED, "--fk-seed=1")
    run.wait_for_lines(len(FINISHED))
    assert run.end(signal.SIGKILL) == -signal.SIGKILL
    assert set(logged(run.log)) == FINISHED
    forgetful = hanging.run(*SELECTED, "-k", "nothing", manifest=False)
    assert logged(run.log) == []
    words = re.search(r"the log of a run that was not finished is kept as \S+ \((.*?) goes on with it\)",
                      " ".join(forgetful.outlines))[1].split()
    assert words[0] == "--fk-resume"
    resumed = hanging.run(*SELECTED, *words, "--fk-seed=2", "-k", "tiny-a", manifest=False)
    resumed.assert_outcomes(passed=4, deselected=4)
    found = hanging.results(words[1].partition("=")[2])
    assert verdicts(found) == dict.fromkeys(FINISHED, "passed")
    assert {result["seed"] for result in found["results"]} == {1}


def test_what_was_finished_and_not_reported_counts(bare, warm):
    """As where the process that reports is interrupted while workers of xdist hand their results over."""
    bare.candidate()
    (bare.path / "conftest.py").write_text(INTERRUPTED_REPORT)
    result = bare.run(*SELECTED, "-p", "no:cacheprovider", manifest=False)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert verdicts(bare.results()) == {"rms_norm[tiny-a-tp1-s1]": "passed"}
    result.stdout.fnmatch_lines(["graded 1 scenario *"])


def test_an_interrupted_grading_costs_itself_alone(tmp_path, scenarios):
    """As a test runner's time limit does it: a signal's handler raises while the candidate is waited for."""
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1/rms_norm.py").write_text(HANGS_AT_32)
    with KernelGrader(GraderSettings(device="cpu", timing=False, candidates_dir=tmp_path)) as grader:
        assert grader.grade(scenarios["rms_norm[tiny-a-tp1-s1]"]).verdict == "passed"
        with pytest.raises(TooLongError), over_after(1.0):
            grader.grade(scenarios["rms_norm[tiny-b-tp1-s1]"])
        assert grader.environment()["machine"]
        assert grader.grade(scenarios["rms_norm[tiny-a-tp1-s8]"]).verdict == "passed"


@pytest.mark.parametrize("signum", ENDING)
def test_a_started_process_heeds_signals_that_the_tests_ignore(signum):
    """As where the tests run in the background of a shell, or with nohup."""
    code = f"import signal; signal.raise_signal({int(signum)})"
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        ended = [subprocess.run([sys.executable, "-S", "-c", code], stderr=subprocess.DEVNULL, preexec_fn=heed)
                 for heed in (None, heed_signals)]
    finally:
        signal.signal(signum, before)
    assert [process.returncode for process in ended] == [0, -signum]


class TooLongError(Exception):
    """What a time limit raises."""


@contextmanager
def over_after(seconds):
    def too_long(number, frame):
        raise TooLongError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
