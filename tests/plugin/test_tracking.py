"""Every run that grades is tracked, at its end, once."""

import hashlib
import socket
import time
from pathlib import Path

import pytest
from mlflow_server import client_of, copy_tables

from fastkernels.bench.tracking import Tracker, tracking_uri
from fastkernels.errors import install_command
from pytest_fastkernels import tracking_bridge  # here once, as conftest.py says

SPY = """

import sys
def spy(when):
    import os
    with open("spy.txt", "a") as file:
        file.write(f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')} {when} {'mlflow' in sys.modules}\\n")
def pytest_collection_finish(): spy("collected")
def pytest_runtest_teardown(): spy("graded")
def pytest_runtest_logreport(): spy("reported")
def pytest_unconfigure(): spy("over")
"""


@pytest.fixture
def switched_on(bare, tables, monkeypatch):
    """A project with tracking on."""
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy_tables(tables, bare.path)
    return bare


@pytest.fixture
def tracked(switched_on):
    """A project with tracking on and the fake grader."""
    switched_on.fake()
    return switched_on


def runs(project):
    return Tracker(tracking_uri(project.path)).query_runs()


def add_to_conftest(project, text):
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize("mode", [(), ("-n2",)])
def test_a_session_is_one_run(tracked, mode):
    tracked.fake(silu="wrong_values")
    result = tracked.run("--fk-level=1", *mode)
    [run] = runs(tracked)
    result.stdout.fnmatch_lines(["*= kernels =*", "results: bench/results/kernels.json",
                                 "recording the run with MLflow *",
                                 f"tracked: run {run.run_id} in mlruns/mlflow.db (fastkernels history, *), * s"])
    assert (run.status, run.tier) == ("FAILED", "kernel")
    assert run.name == "1.50x 6/7 wrong_values self-test: rms_norm, silu_and_mul tiny-a, tiny-b on cpu"
    assert run.metrics["rms_norm_passed"] == 6
    assert run.metrics["silu_and_mul_failed"] == 1
    assert run.metrics["rms_norm/tiny-a-tp2-s8/speedup"] == 1.5
    assert (run.params["model"], run.params["tp"], run.params["level"]) == ("tiny-a,tiny-b", "1,2", "1")
    assert run.params["seed"] == str(tracked.results()["results"][0]["seed"])
    assert run.tags["self_test"] == "true"
    assert {entry.path for entry in client_of(tracking_uri(tracked.path)).list_artifacts(run.run_id)} == {
        "errors", "plots", "results.json"}


def test_the_source_that_was_graded_can_be_had_again(switched_on, rms_norm):
    code = rms_norm.replace("\n", "\r\n") + "# größe"
    (switched_on.path / "kernels" / "L1").mkdir(parents=True)
    (switched_on.path / "kernels" / "L1" / "rms_norm.py").write_bytes(code.encode())
    switched_on.run("--fk-target=rms_norm", "--fk-device=cpu", "--fk-no-timing", "--fk-seqlen=1",
                    "--fk-candidates=kernels").assert_outcomes(passed=3)
    [run] = runs(switched_on)
    assert (run.name, run.status) == ("3/3 passed: rms_norm tiny-a, tiny-b on cpu", "FINISHED")
    assert run.tags["self_test"] == "false"
    assert run.tags["kernel_sha256.rms_norm"] == hashlib.sha256(code.encode()).hexdigest()
    assert run.tags["candidate_sha256.rms_norm"] == switched_on.results()["results"][0]["candidate_sha256"]
    client = client_of(tracking_uri(switched_on.path))
    downloaded = client.download_artifacts(run.run_id, "kernels/rms_norm.py", str(switched_on.path))
    assert Path(downloaded).read_bytes() == code.encode()


def test_every_session_is_a_run_of_its_own(tracked):
    tracked.run("--fk-target=rms_norm")
    tracked.run("--fk-target=silu_and_mul", "--no-header", "-q")
    assert [run.name for run in runs(tracked)] == [
        "1.50x 1/1 passed self-test: silu_and_mul tiny-a on cpu",
        "1.50x 6/6 passed self-test: rms_norm tiny-a, tiny-b on cpu"]


@pytest.mark.parametrize("words", [("--fk-level=1", "--collect-only"), ("--fk-level=1", "--fk-list"),
                                   ("--fk-level=1", "--fk-map"), ("--fk-target=rms",), ("--help",)])
def test_what_grades_nothing_tracks_nothing(tracked, words):
    tracked.run(*words)
    assert runs(tracked) == []


def test_a_run_of_other_tests_tracks_nothing(tracked):
    tracked.pytester.makepyfile("def test_nothing():\n    pass")
    tracked.run(manifest=False).assert_outcomes(passed=1)
    assert runs(tracked) == []


@pytest.mark.parametrize("mode", [(), ("-n2",)])
def test_mlflow_is_loaded_at_the_end_and_by_the_controller_alone(tracked, mode):
    add_to_conftest(tracked, SPY)
    tracked.run("--fk-target=rms_norm", *mode, subprocess=True)
    seen = (tracked.path / "spy.txt").read_text().splitlines()
    late = [line for line in seen if line.endswith("True")]
    assert late == ["main over True"]
    assert {line.split()[1] for line in seen} == {"collected", "graded", "reported", "over"}


def test_collection_does_not_load_mlflow(tracked):
    add_to_conftest(tracked, SPY)
    tracked.run("--fk-target=rms_norm", "--collect-only", subprocess=True)
    assert (tracked.path / "spy.txt").read_text() == "main collected False\nmain over False\n"


@pytest.mark.parametrize("mode", [(), ("-n2",)])
def test_without_mlflow_a_run_is_green_with_one_note(tracked, mode):
    (tracked.path / "hide_mlflow.py").write_text("import sys\nsys.modules['mlflow'] = None\n")
    tracked.pytester.syspathinsert()
    result = tracked.run("-phide_mlflow", "-Werror", "--fk-target=rms_norm", *mode, subprocess=True)
    assert result.ret == pytest.ExitCode.OK
    text = " ".join(result.stdout.str().split())
    assert text.count(install_command("mlflow")) == 1
    assert text.count("fastkernels tracking: mlflow is not installed, nothing is recorded") == 1
    assert "pip install" not in result.stderr.str()


def test_a_store_that_fails_is_a_note(tracked, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed.getsockname()[1]}")
    result = tracked.run("-Werror", "--fk-target=rms_norm")
    assert result.ret == pytest.ExitCode.OK
    text = " ".join(result.stdout.str().split())
    assert "is not recorded: http://127.0.0.1" in text
    assert "no answer: ConnectionRefusedError: [Errno 111] Connection refused; results: bench/results/kernels" in text
    assert len(tracked.results()["results"]) == 6


def test_an_interrupted_run_keeps_what_was_finished(tracked):
    add_to_conftest(tracked, """
count = []
def pytest_runtest_teardown():
    count.append(1)
    if len(count) == 3:
        raise KeyboardInterrupt
""")
    result = tracked.run("--fk-level=1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    [run] = runs(tracked)
    assert run.status == "KILLED"
    assert run.metrics["passed"] == len(tracked.results()["results"]) == 3
    assert run.metrics["left_out"] == len(tracked.results()["left_out"])


@pytest.mark.parametrize("mode", [(), ("-n2",)])
def test_a_second_interrupt_ends_the_recording_alone(tracked, monkeypatch, mode):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking_bridge, "record_run", interrupted)
    result = tracked.run("--fk-target=rms_norm", *mode)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["graded 6 scenarios *", "fastkernels tracking: interrupted, *"])


def test_a_run_that_finds_a_wrong_kernel_looks_failed_and_says_why(tracked):
    tracked.fake(tiny_a_tp1_s8="wrong_values")
    tracked.run("--fk-level=1", "-x")
    [run] = runs(tracked)
    assert (run.status, run.metrics["failed"], run.metrics["passed"]) == ("FAILED", 1, 1)
    note = client_of(tracking_uri(tracked.path)).get_run(run.run_id).data.tags["mlflow.note.content"]
    assert note.startswith("**2 scenarios: 1 passed, 1 wrong_values** on cpu")
    assert "| rms_norm | tiny-a | 1 | 1 passed, 1 wrong_values | 1.50x | 1.50x, 1 tokens | 77 |" in note
    [model] = client_of(tracking_uri(tracked.path)).get_run(run.run_id).inputs.dataset_inputs
    assert model.dataset.name == "tiny-a"
    assert "- `rms_norm[tiny-a-tp1-s8]` wrong_values: 1 of 4096 elements is outside the tolerance" in note


def test_a_run_without_a_terminal_is_tracked_too(tracked):
    tracked.run("--fk-target=silu_and_mul", "-p", "no:terminal", subprocess=True)
    assert len(runs(tracked)) == 1


def test_a_run_under_xdist_that_stops_at_the_first_failure_has_failed(tracked):
    tracked.fake(tiny_a_tp1_s1="wrong_values")
    tracked.run("--fk-level=1", "-x", "-n2")
    assert [run.status for run in runs(tracked)] == ["FAILED"]


def test_tests_that_change_the_directory_do_not_move_the_store(tracked, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    add_to_conftest(tracked, f"\ndef pytest_runtest_teardown():\n    os.chdir({str(other)!r})\n")
    tracked.run("--fk-target=silu_and_mul")
    assert len(runs(tracked)) == 1
    assert {path.name for path in other.iterdir()} <= {"graded.txt"}


def test_off_means_off(tracked, monkeypatch):
    monkeypatch.setenv("FASTKERNELS_TRACKING", "off")
    result = tracked.run("--fk-target=rms_norm")
    result.stdout.no_fnmatch_line("*track*")
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    assert runs(tracked) == []


def test_the_time_of_a_run_is_that_of_grading(tracked, monkeypatch):
    def slow(*arguments):
        time.sleep(1)
        return record_run(*arguments)

    record_run = tracking_bridge.record_run
    monkeypatch.setattr(tracking_bridge, "record_run", slow)
    result = tracked.run("--fk-target=rms_norm")
    [run] = runs(tracked)
    wall_s = tracked.results()["wall_s"]
    assert run.duration_s == pytest.approx(wall_s, abs=0.002)
    result.stdout.fnmatch_lines([f"graded 6 scenarios (4 shapes) on cpu in {wall_s:.1f} s*"])
