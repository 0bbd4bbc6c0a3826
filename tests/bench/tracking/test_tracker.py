"""Runs in the local store, as the tracker and MLflow's own client read them."""

import os
import re
import warnings
from pathlib import Path

import pytest
from mlflow_server import client_of, copy_tables
from results_by_hand import passed
from tracked_results import CODE, E2E, REPORT, bench

from fastkernels.bench.tracking import EXPERIMENT, Tracker, TrackingWarning, tracking_uri
from fastkernels.bench.tracking.mlflow_store import MlflowStore
from fastkernels.errors import TrackingError


def paths(client, run_id, below=None):
    """Every file of a run."""
    found = []
    for entry in client.list_artifacts(run_id, below):
        found += paths(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found


def test_a_run_of_the_kernel_tier_is_whole(tracker, local, notes, tmp_path):
    result = bench()
    with tracker.start_run("rms_norm on cpu", started=result.started, wall_s=result.wall_s) as handle:
        tracker.log_kernel_bench(result)
    assert notes == []
    [run] = tracker.query_runs()
    assert (run.run_id, run.name, run.status, run.tier) == (handle.run_id, "rms_norm on cpu", "FINISHED", "kernel")
    assert (run.started, run.duration_s) == (result.started, 12.5)
    assert run.params["level"] == "1"
    assert run.metrics["rms_norm_avg_speedup"] == pytest.approx(2.0)
    assert run.metrics["silu_and_mul/tiny-tp1-s4/correct"] == 0
    assert run.tags["self_test"] == "false"
    assert run.tags["kernel_sha256.rms_norm"] == result.kernels[0].sha256
    client = client_of(local)
    assert sorted(paths(client, run.run_id)) == [
        "errors/silu_and_mul.txt", "kernels/index.json", "kernels/rms_norm.py", "plots/error-ratios.svg",
        "plots/roofline.svg", "plots/samples.svg", "results.json"]
    downloaded = client.download_artifacts(run.run_id, "kernels/rms_norm.py", str(tmp_path))
    assert Path(downloaded).read_bytes() == CODE.encode()


def test_all_data_lie_in_mlruns_which_git_ignores(on, notes):
    with Tracker(notify=notes.append).start_run("first"):
        pass
    assert notes == []
    assert os.listdir(on) == ["mlruns"]
    assert (on / "mlruns" / ".gitignore").read_text() == "*\n"
    assert client_of(tracking_uri()).get_experiment_by_name(EXPERIMENT).artifact_location == (
        f"file://{on}/mlruns/artifacts")


@pytest.mark.parametrize("name", ["my models", "größe #1", "50%", "a%20b", "a?b"])
def test_a_directory_with_any_name_will_do(on, tables, monkeypatch, notes, name):
    folder = on / name
    folder.mkdir()
    copy_tables(tables, folder)
    monkeypatch.chdir(folder)
    tracker = Tracker(notify=notes.append)
    with tracker.start_run("first") as handle:
        tracker.log_kernel("rms_norm", 1, CODE)
    assert notes == []
    assert (folder / "mlruns" / "mlflow.db").stat().st_size >= tables.stat().st_size
    assert [path for path in on.rglob("*.db") if path.parents[1] != folder] == []
    assert "kernels/rms_norm.py" in paths(client_of(handle.uri), handle.run_id)


def test_a_run_stays_in_its_store_when_the_process_changes_directory(tracker, local, notes, tmp_path, monkeypatch):
    with tracker.start_run("moving") as handle:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        tracker.log_kernel("rms_norm", 1, CODE)
        tracker.log_metrics({"x": 1})
    assert notes == []
    assert not (tmp_path / "other" / "mlruns").exists()
    assert client_of(local).get_run(handle.run_id).data.metrics == {"x": 1}
    assert "kernels/rms_norm.py" in paths(client_of(local), handle.run_id)


@pytest.mark.parametrize(("error", "status"), [
    (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit(1), "FAILED"), (SystemExit(0), "FINISHED"),
    (pytest.fail.Exception, "FAILED")])
def test_the_way_a_block_is_left_is_the_status(tracker, notes, error, status):
    with pytest.raises(error if isinstance(error, type) else type(error)), tracker.start_run("x"):
        raise error
    assert [run.status for run in tracker.query_runs()] == [status]


def test_a_status_can_be_chosen(tracker):
    with tracker.start_run("x") as handle:
        handle.status = "KILLED"
    assert tracker.query_runs()[0].status == "KILLED"


def test_a_running_run_has_no_duration(tracker):
    with tracker.start_run("x"):
        [run] = tracker.query_runs()
        assert (run.status, run.duration_s) == ("RUNNING", None)


def test_a_run_within_another_is_its_child(tracker, local):
    with tracker.start_run("outer") as outer:
        with tracker.start_run("inner") as inner:
            tracker.log_metrics({"x": 1})
        tracker.log_metrics({"y": 2})
    runs = {run.name: run for run in tracker.query_runs()}
    assert (runs["inner"].metrics, runs["outer"].metrics) == ({"x": 1}, {"y": 2})
    assert client_of(local).get_run(inner.run_id).data.tags["mlflow.parentRunId"] == outer.run_id


def test_params_of_the_caller_win_over_those_of_the_results(tracker, notes):
    with tracker.start_run("x", params={"model": "meta-llama/Llama-3.1-8B-Instruct", "level": 1}):
        tracker.log_kernel_bench(bench())
        tracker.log_kernel_bench(bench(settings={"seed": 8}))
    assert notes == []
    [run] = tracker.query_runs()
    assert (run.params["model"], run.params["seed"]) == ("meta-llama/Llama-3.1-8B-Instruct", "7")


def test_the_tier_of_the_caller_wins(tracker):
    with tracker.start_run("x", tags={"tier": "agent", "note": "a"}):
        tracker.log_kernel_bench(bench())
        tracker.log_e2e(E2E, "throughput")
    assert (tracker.query_runs()[0].tier, tracker.query_runs()[0].tags["note"]) == ("agent", "a")


def test_a_second_bench_of_a_run_hides_nothing_of_the_first(tracker, local):
    with tracker.start_run("x") as handle:
        tracker.log_kernel_bench(bench())
        tracker.log_kernel_bench(bench(passed()))
    found = paths(client_of(local), handle.run_id)
    assert {"results.json", "results-2.json", "plots/samples.svg", "plots/samples-2.svg",
            "errors/silu_and_mul.txt"} < set(found)
    history = client_of(local).get_metric_history(handle.run_id, "rms_norm_passed")
    assert [(point.step, point.value) for point in history] == [(0, 2), (1, 1)]
    assert tracker.query_runs()[0].metrics["rms_norm_passed"] == 1


def test_self_tests_have_no_kernels(tracker, local):
    with tracker.start_run("x") as handle:
        tracker.log_kernel_bench(bench(passed(self_test=True), kernels=()))
    assert tracker.query_runs()[0].tags["self_test"] == "true"
    assert not any(path.startswith("kernels") for path in paths(client_of(local), handle.run_id))


def test_numbers_that_are_not_finite_are_named_and_do_not_spoil_charts(tracker, notes):
    with tracker.start_run("x"):
        tracker.log_metrics({"good": 1.5, "loss": float("nan")})
        tracker.log_metrics({"ratio": float("inf")})
    [run] = tracker.query_runs()
    assert run.metrics == {"good": 1.5}
    assert run.tags["nonfinite"] == '{"loss": "nan", "ratio": "inf"}'
    assert notes == []


def test_more_values_than_mlflow_takes_in_one_call(tracker, notes):
    with tracker.start_run("x", params={f"p{n}": n for n in range(250)}):
        tracker.log_metrics({f"m{n}": n for n in range(2500)})
    assert notes == []
    [run] = tracker.query_runs()
    assert len(run.params) == 250
    assert run.metrics == {f"m{n}": n for n in range(2500)}


def test_no_call_is_larger_than_mlflow_takes(tracker, monkeypatch):
    calls = []
    client = type(client_of(tracking_uri()))
    real = client.log_batch

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        calls.append((len(metrics), len(params), len(tags)))
        return real(self, run_id, metrics, params, tags)

    monkeypatch.setattr(client, "log_batch", log_batch)
    with tracker.start_run("x", params={f"p{n}": n for n in range(250)}):
        tracker.log_metrics({f"m{n}": n for n in range(2500)})
    assert calls == [(0, 100, 0), (0, 100, 0), (0, 50, 0), (1000, 0, 0), (1000, 0, 0), (500, 0, 0)]


def test_a_warning_of_mlflows_own_is_no_error(local):
    def deprecated():
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        return 7

    assert MlflowStore(local)._do(deprecated) == 7  # this project's tests run with warnings as errors


def test_eval_and_e2e_log_what_they_measured(tracker):
    with tracker.start_run("eval"):
        tracker.log_eval(REPORT)
    with tracker.start_run("e2e"):
        tracker.log_e2e(E2E, bench_type="serve")
    runs = {run.tier: run for run in tracker.query_runs()}
    assert runs["eval"].metrics == {
        "avg_throughput_speedup": 1.2, "avg_latency_speedup": 1.1, "alignment_rate": 0.99, "macro_speedup": 1.15,
        "macro_correctness": 1.0, "macro_coverage": 0.5, "macro_score": 0.57, "wall_s": 99.0,
        "llama31-8b-tp1/balanced/speedup": 1.2, "llama31-8b-tp1/balanced/alignment_rate": 0.99,
        "llama31-8b-tp2/single-request/speedup": 1.1, "llama31-8b-tp2/single-request/alignment_rate": 1.0}
    assert runs["eval"].params | {"model": "llama31-8b", "tp": "1,2", "seed": "3"} == runs["eval"].params
    assert runs["e2e"].metrics == {
        "tokens_per_second": 5000.5, "avg_latency": 1.5, "mean_ttft_ms": 20, "mean_tpot_ms": 5.0, "mean_itl_ms": 4.5,
        "percentiles/50": 1.4, "percentiles/99": 2.0}
    assert runs["e2e"].params | {"bench_type": "serve", "model": "tiny/Tiny-A", "commit": "abc", "tp": "1"} == (
        runs["e2e"].params)


@pytest.mark.parametrize(("words", "names"), [
    ("", ["e2e", "agent", "kernel"]), ('params.level = "1"', ["agent", "kernel"]), ('params.level = "2"', []),
    ("metrics.e2e_speedup > 1.0", ["agent"]), ("metrics.e2e_speedup > 2.0", []), ('tags.tier = "agent"', ["agent"]),
    ('tags.tier = "kernel" and metrics.rms_norm_failed = 0', ["kernel"]), ('params.cuda_only = "True"', ["agent"]),
    ("metrics.`rms_norm/tiny-tp1-s4/speedup` > 1.5", ["kernel"])])
def test_filters_and_order(runs_of_all_tiers, words, names):
    assert [run.name for run in runs_of_all_tiers.query_runs(filter_string=words)] == names


@pytest.fixture
def runs_of_all_tiers(tracker):
    with tracker.start_run("kernel", started="2026-11-25T01:00:00+00:00"):
        tracker.log_kernel_bench(bench())
    with tracker.start_run("agent", {"level": 1, "cuda_only": True}, {"tier": "agent"}, "2026-11-25T02:00:00+00:00"):
        tracker.log_metrics({"e2e_speedup": 1.5})
    with tracker.start_run("e2e", started="2026-11-25T03:00:00+00:00"):
        tracker.log_e2e(E2E, "latency")
    return tracker


def test_as_many_runs_as_asked_for(runs_of_all_tiers, monkeypatch):
    monkeypatch.setattr("fastkernels.bench.tracking.mlflow_store.RUNS_A_PAGE", 2)
    assert [run.name for run in runs_of_all_tiers.query_runs(max_results=3)] == ["e2e", "agent", "kernel"]
    assert [run.name for run in runs_of_all_tiers.query_runs(max_results=1)] == ["e2e"]
    assert runs_of_all_tiers.query_runs(experiment="other") == []


def test_a_wrong_filter_is_an_error_that_shows_it(tracker):
    with tracker.start_run("x"):
        pass
    with pytest.raises(TrackingError, match=re.escape("mlruns/mlflow.db: ") + ".*'nonsense'"):
        tracker.query_runs(filter_string="nonsense")


def test_asking_makes_no_store(on):
    assert Tracker().query_runs() == []
    assert os.listdir(on) == []


def test_what_is_logged_outside_a_run_is_reported_once(tracker, notes):
    tracker.log_metrics({"x": 1})
    tracker.log_metrics({"x": 2})
    assert len(notes) == 1
    assert "metrics x not recorded: no run is open" in notes[0]


def test_a_value_that_is_no_number_costs_itself_only(tracker):
    told = Tracker()
    with pytest.warns(TrackingWarning, match=r"lost: metric loss = 'high' \(not a number\)"), told.start_run("x"):
        told.log_metrics({"loss": "high", "good": 1})
    assert tracker.query_runs()[0].metrics == {"good": 1}


def test_where_warnings_are_errors_it_is_said_on_stderr(local, capsys):
    told = Tracker()  # this project's tests run with warnings as errors
    with told.start_run("x"):
        told.log_metrics({"loss": "high"})
    assert "loss = 'high'" in capsys.readouterr().err


def test_the_environment_is_as_it_was(tracker):
    before = dict(os.environ)
    with tracker.start_run("x"):
        tracker.log_metrics({"x": 1})
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_tracking_can_be_off(on, monkeypatch, notes):
    monkeypatch.setenv("FASTKERNELS_TRACKING", "off")
    tracker = Tracker(notify=notes.append)
    with tracker.start_run("x") as handle:
        tracker.log_kernel_bench(bench())
    tracker.log_metrics({"x": 1})
    assert (handle.run_id, tracker.query_runs(), notes, os.listdir(on)) == ("", [], [], [])
