"""A local store read without MLflow gives what MLflow gives."""

import math
import sqlite3
import subprocess
import sys

import pytest
from mlflow_server import client_of, copy_tables

from fastkernels.bench.tracking import EXPERIMENT, Tracker, local_store, tracking_uri
from fastkernels.bench.tracking.sqlite_runs import read_runs


@pytest.fixture
def store(tables, tmp_path, monkeypatch):
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy_tables(tables, tmp_path)
    tracker = Tracker(tracking_uri(tmp_path))
    for number in range(3):
        tags = {"tier": ("kernel", "agent")[number % 2]}
        with tracker.start_run(f"run {number} größe", params={"model": "a,b"}, tags=tags,
                               started=f"2026-11-0{number + 1}T10:00:00+00:00", wall_s=1.5):
            tracker.log_metrics({"rms_norm_passed": number, "rms_norm/s1/speedup": 1.5})
            tracker.log_metrics({"rms_norm_passed": number + 1, "rms_norm_failed": 0})
    client = client_of(tracking_uri(tmp_path))
    client.log_metric(tracker.query_runs()[0].run_id, "odd", math.nan)
    gone = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    client.delete_run(gone.info.run_id)
    return tmp_path


def plain(run):
    """A run as data that equals itself where a metric is NaN."""
    return {**vars(run), "metrics": {name: str(value) for name, value in run.metrics.items()}}


@pytest.mark.parametrize(("tier", "limit"), [("", 100), ("", 2), ("kernel", 100), ("kernel", 1), ("eval", 100)])
def test_the_same_runs_as_mlflow_finds(store, tier, limit):
    theirs = Tracker(tracking_uri(store)).query_runs(EXPERIMENT, f'tags.tier = "{tier}"' if tier else "", limit)
    ours = read_runs(local_store(store), EXPERIMENT, tier, limit)
    assert list(map(plain, ours)) == list(map(plain, theirs))
    assert len(ours) == {"": min(limit, 3), "kernel": min(limit, 2), "eval": 0}[tier]


def test_a_file_that_is_no_store_is_an_error(tmp_path):
    for name, content in (("text", b"no database" * 100), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(sqlite3.Error):
            read_runs(tmp_path / name, EXPERIMENT, "", 10)


def test_history_of_a_local_store_loads_no_mlflow(store):
    code = ("import sys; from fastkernels.cli.main import main; status = main(['history']);"
            "print(status, 'mlflow' in sys.modules, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=store, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr
    assert "run 2 größe" in done.stdout
