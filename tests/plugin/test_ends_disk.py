"""What a run has found survives full and read-only disks, other runs in its directory, and errors of other plugins."""

import errno
import json
import os
import subprocess

import pytest
from ended_runs import verdicts
from results_by_hand import passed

from fastkernels.bench.kernels import GraderSettings, KernelGrader, hold
from fastkernels.bench.kernels.log import ResultLog
from fastkernels.bench.kernels.pipeline import Found
from fastkernels.manifest import load_manifest

TARGET = "--fk-target=rms_norm"
BLOCKED = """
def pytest_sessionfinish():
    import shutil
    shutil.rmtree("bench/results")
    open("bench/results", "w").close()
"""
"""The directory of results has become a file by the end."""
BREAKS_AT_THE_END = "\ndef pytest_sessionfinish():\n    raise OSError('no space for another plugin')\n"
BREAKS_BEFORE_THE_END = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish():
    raise OSError('no space for another plugin')
    yield
"""
BREAKS_IN_BETWEEN = """
def pytest_runtest_logreport(report):
    if "tiny-b" in report.nodeid:
        raise OSError('no space for another plugin')
"""


@pytest.fixture
def full_disk(project, monkeypatch):
    """Results lie on a disk of two pages: a real one where this process may mount it, else by refusal."""
    folder = project.path / "bench"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)],
                             capture_output=True, check=False).returncode == 0
    if not mounted:
        monkeypatch.setattr(os, "fsync", refuse)
    yield project
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refuse(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def add_to_conftest(project, text):
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + text)


def test_a_full_disk_costs_the_results_file_alone(full_disk):
    result = full_disk.run(TARGET, "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([
        "rms_norm tiny-a 1-2 *", "graded 6 scenarios *", "seed: *",
        "results file not written: bench/results/kernels.json: No space left on device; *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not list((full_disk.path / "bench/results").glob("*.json*[!l]"))


def test_a_directory_that_is_gone_at_the_end_costs_the_results_file_alone(project):
    add_to_conftest(project, BLOCKED)
    result = project.run(TARGET)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["graded 6 scenarios *", "seed: *", "results file not written: bench/results/ker*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(("path", "told"), [
    ("tiny.yaml/kernels.json", "cannot write beside"), ("/proc/kernels.json", "cannot write beside"),
    ("bench", "is a directory; expected a file"), ("/dev/null", "is no regular file; expected a file")])
def test_where_nothing_can_be_written_nothing_starts(project, path, told):
    (project.path / "bench").mkdir()
    result = project.run(TARGET, f"--fk-output-json={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert project.graded() == []


def test_a_result_that_the_log_cannot_take_is_returned_and_known(project, monkeypatch):
    scenario = next(iter(load_manifest(project.path / "tiny.yaml").scenarios()))
    result = passed(id=scenario.id, shape_key=scenario.shape_key)
    grader = KernelGrader(GraderSettings(device="cpu", self_test=True), project.path / "kernels.jsonl")
    monkeypatch.setattr(grader, "_grade", lambda *_: (Found(), result))
    monkeypatch.setattr(os, "write", refuse)
    assert grader.grade(scenario) == result
    assert "No space left" in grader.log_error
    monkeypatch.undo()
    assert grader.finished(scenario) == result
    assert ResultLog(project.path / "kernels.jsonl").find(scenario.id, scenario.shape_key, "") is None


def test_a_log_that_lacks_results_is_told_of(project):
    add_to_conftest(project, """
from fastkernels.bench.kernels import GraderSettings, KernelGrader

class Unlogged(KernelGrader):
    def __init__(self, session):
        super().__init__(GraderSettings(device="cpu"))
        self.fake, self.log_error = FakeGrader(session), "No space left on device"
    def left_out(self, scenario): return self.fake.left_out(scenario)
    def grade(self, scenario): return self.fake.grade(scenario)

def pytest_fastkernels_grader(session): return Unlogged(session)
""")
    result = project.run(TARGET)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["results: bench/results/kernels.json; the log bench/results/kernels.jsonl lacks *"])


def test_two_runs_in_one_directory_keep_both_results(project):
    first = hold(project.path / "bench/results/kernels.json")
    second = project.run(TARGET)
    assert second.ret == pytest.ExitCode.OK
    second.stdout.fnmatch_lines([f"fastkernels: another run (process {os.getpid()} on *) writes to kernels.json *",
                                 "results: bench/results/kernels-2.json"])
    assert not (project.path / "bench/results/kernels.json").exists()
    assert len(verdicts(project.results("bench/results/kernels-2.json"))) == 6
    for flag in ("--fk-resume", "--fk-output-json=bench/results/kernels.json"):
        refused = project.run(TARGET, flag)
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines([f"ERROR: {flag.partition('=')[0]}: bench/results/kernels.json: another run *"])
    first.release(finished=True)
    project.run(TARGET).stdout.fnmatch_lines(["results: bench/results/kernels.json"])


def test_under_xdist_workers_share_the_log_of_their_own_run(project):
    with_hold = hold(project.path / "bench/results/kernels.json")
    add_to_conftest(project, """
def pytest_runtest_logfinish(nodeid):
    from pytest_fastkernels.session import SESSION
def pytest_sessionfinish(session):
    from pytest_fastkernels.session import SESSION
    with open("logs.txt", "a") as file:
        file.write(f"{session.config.stash[SESSION].log_path.name}\\n")
""")
    assert project.run(TARGET, "-n2").ret == pytest.ExitCode.OK
    assert (project.path / "logs.txt").read_text().split() == ["kernels-2.jsonl"] * 3
    with_hold.release(finished=True)


def test_the_log_of_a_run_that_ended_by_itself_is_not_kept(project):
    project.fake(tiny_a_tp1_s8="wrong_values")
    log = project.path / "bench/results/kernels.jsonl"
    for words in ((), ("-x",), ("-x", "-n2"), ("-k", "nothing")):
        project.run(TARGET, *words)
        log.write_text("{}\n")
    assert [path.name for path in log.parent.glob("*.jsonl")] == ["kernels.jsonl"]
    assert not (log.parent / ".kernels.run").exists()


@pytest.mark.parametrize(("broken", "finished"), [
    (BREAKS_AT_THE_END, 6), (BREAKS_BEFORE_THE_END, 6), (BREAKS_IN_BETWEEN, 4)])
def test_an_error_of_another_plugin_costs_neither_file_nor_table(project, broken, finished):
    add_to_conftest(project, broken)
    result = project.run(TARGET)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert len(verdicts(project.results())) == finished
    text = result.stdout.str()
    assert text.count(f"graded {finished} scenarios") == 1
    assert text.count("results: bench/results/kernels.json") == 1


def test_results_come_without_a_terminal(project):
    project.fake(tiny_b="wrong_values")
    assert project.run(TARGET, "-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED
    assert len(verdicts(project.results())) == 6
    assert json.loads((project.path / "bench/results/kernels.json").read_text())["environment"]
