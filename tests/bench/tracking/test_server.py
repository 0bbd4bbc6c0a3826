"""A team's MLflow server: the same calls, read back over HTTP."""

from pathlib import Path

import pytest
from mlflow_server import client_of
from tracked_results import CODE, bench, failed

from fastkernels.bench.tracking import Tracker, tracker


@pytest.fixture
def remote(on, server, monkeypatch):
    """The URI of a real server, which MLFLOW_TRACKING_URI names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return server.uri


def test_a_run_is_whole_and_its_kernel_comes_back_byte_for_byte(remote, on, notes, capfd):
    told = Tracker(notify=notes.append)
    with told.start_run("remote", params={"level": 1}) as handle:
        told.log_kernel_bench(bench())
        told.log_metrics({"ratio": float("inf"), **{f"m{n}": n for n in range(1500)}})
    assert notes == []
    assert capfd.readouterr() == ("", "")
    assert handle.uri == remote
    assert not (on / "mlruns").exists()
    client = client_of(remote)
    downloaded = client.download_artifacts(handle.run_id, "kernels/rms_norm.py", str(on))
    assert Path(downloaded).read_bytes() == CODE.encode()
    names = {entry.path for entry in client.list_artifacts(handle.run_id)}
    assert names == {"errors", "kernels", "plots", "results.json"}
    [run] = told.query_runs(filter_string='params.level = "1" and tags.tier = "kernel" and metrics.rms_norm_passed = 2')
    assert (run.run_id, run.status, run.metrics["m1499"]) == (handle.run_id, "FINISHED", 1499)
    assert run.tags["nonfinite"] == '{"ratio": "inf"}'


def test_the_process_wide_tracker_follows_the_variable(remote, notes):
    with tracker.start_run("global") as handle:
        tracker.log_kernel_bench(bench(failed()))
    assert handle.run_id in {run.run_id for run in tracker.query_runs(max_results=5)}
