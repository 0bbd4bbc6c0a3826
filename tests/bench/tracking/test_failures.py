"""Stores that fail: the caller's run goes on, ends soon, and is told once what was lost."""

import errno
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow_server import client_of
from tracked_results import CODE, REPORT, bench

from fastkernels.bench.tracking import Tracker, TrackingWarning, local_store, mlflow_store
from fastkernels.bench.tracking.bounded import call_within


def log_everything(tracker: Tracker) -> tuple[str, int]:
    """A benchmark that logs in every way; returns the run's id and a result that only a whole benchmark has."""
    with tracker.start_run("doomed", params={"level": 1}) as handle:
        tracker.log_kernel("rms_norm", 1, CODE)
        tracker.log_kernel_bench(bench())
        tracker.log_eval(REPORT)
        tracker.log_metrics({"x": 1})
    return handle.run_id, 42


class Listener:
    """A server on loopback that takes connections and, if at all, answers a byte at a time without end."""

    def __init__(self, drips: bool) -> None:
        self.drips = drips
        self.connections: list[socket.socket] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.closed = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while not self.closed:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed by the test
                return
            self.connections.append(connection)
            if self.drips:
                threading.Thread(target=self.drip, args=(connection,), daemon=True).start()

    def drip(self, connection: socket.socket) -> None:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.closed:
                connection.sendall(b"z")
                time.sleep(0.05)
        except OSError:  # the other side gave up
            return

    def close(self) -> None:
        self.closed = True
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which else might take one more connection
        self.thread.join()
        self.socket.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def silent() -> Iterator[Listener]:
    listener = Listener(drips=False)
    yield listener
    listener.close()


@pytest.fixture
def dripping() -> Iterator[Listener]:
    listener = Listener(drips=True)
    yield listener
    listener.close()


def test_a_server_that_is_down(on, notes):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert log_everything(Tracker(uri, notes.append)) == ("", 42)
    assert notes == [f"fastkernels tracking: run 'doomed' is not recorded: {uri}: no answer: "
                     "ConnectionRefusedError: [Errno 111] Connection refused"]


def test_a_server_that_never_answers(on, notes, silent, monkeypatch):
    monkeypatch.setattr(mlflow_store, "REQUEST_TIMEOUT_S", 1)
    assert log_everything(Tracker(silent.uri, notes.append)) == ("", 42)
    assert len(notes) == 1
    assert "run 'doomed' is not recorded" in notes[0]
    assert "no answer: TimeoutError: timed out" in notes[0]
    assert len(silent.connections) == 1 + mlflow_store.RETRIES


def test_a_server_that_answers_without_end(on, notes, dripping, monkeypatch):
    monkeypatch.setattr(mlflow_store, "CALL_LIMIT_S", 3.0)
    assert log_everything(Tracker(dripping.uri, notes.append)) == ("", 42)
    assert notes == [f"fastkernels tracking: run 'doomed' is not recorded: {dripping.uri}: no answer: "
                     "TimeoutError: no end after 3 s"]


class Answers(BaseHTTPRequestHandler):
    """Answers every request alike, as a proxy or another service may."""

    status, body = 200, b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize(("status", "body", "why"), [
    (200, b"{}", "the answer names no run"), (200, b"[]", ""), (200, b"<html>sign in</html>", ""),
    (200, b"", ""), (200, b"\xff\x00", ""), (404, b"{}", ""), (500, b"down", "")])
def test_a_server_that_is_something_else(on, notes, status, body, why, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    handler = type("Handler", (Answers,), {"status": status, "body": body})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        assert log_everything(Tracker(uri, notes.append)) == ("", 42)
        server.shutdown()
    assert len(notes) == 1
    assert notes[0].startswith(f"fastkernels tracking: run 'doomed' is not recorded: {uri}: ")
    assert why in notes[0]


def test_the_users_own_limits_count(on, notes, silent, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    log_everything(Tracker(silent.uri, notes.append))
    assert len(silent.connections) == 1
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_a_server_that_comes_back_gets_the_rest(tracker, notes, monkeypatch):
    store = mlflow_store.MlflowStore
    real = store.write_values
    with tracker.start_run("blip"):
        monkeypatch.setattr(store, "write_values", unreachable)
        tracker.log_metrics({"lost": 1})
        monkeypatch.setattr(store, "write_values", real)
        tracker.log_metrics({"too_soon": 1})
        monkeypatch.setattr("fastkernels.bench.tracking.open_run.PAUSE_S", 0.0)
        tracker._open[-1]._paused_until = 0.0
        tracker.log_metrics({"kept": 1})
    assert tracker.query_runs()[0].metrics == {"kept": 1}
    assert notes[0].endswith("lost: metrics lost (gone); metrics too_soon (not tried again so soon)")


def test_a_source_that_was_lost_is_kept_when_it_is_logged_again(tracker, local, monkeypatch):
    store = mlflow_store.MlflowStore
    real = store.write_files
    with tracker.start_run("blip") as handle:
        monkeypatch.setattr(store, "write_files", refuse)
        tracker.log_kernel("rms_norm", 1, CODE)
        monkeypatch.setattr(store, "write_files", real)
        tracker.log_kernel("rms_norm", 1, CODE)
    assert [entry.path for entry in client_of(local).list_artifacts(handle.run_id, "kernels")] == [
        "kernels/index.json", "kernels/rms_norm.py"]


def refuse(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def unreachable(*_):
    raise mlflow_store.StoreUnreachableError("gone")


@pytest.fixture
def full_disk(on: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local store on a disk with 64 KiB left: a real one where this process may mount it, else by refusal."""
    folder = on / "mlruns"
    folder.mkdir()
    size = tables.stat().st_size + (1 << 16)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
                             capture_output=True, check=False).returncode == 0
    shutil.copy(tables, local_store())
    if not mounted:
        monkeypatch.setattr("mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.log_artifacts", refuse)
    yield
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up(full_disk, notes):
    tracker = Tracker(notify=notes.append)
    with tracker.start_run("large") as handle:
        tracker.log_kernel("rms_norm", 1, "x = 1\n" * 100_000)
        tracker.log_kernel_bench(bench())
    assert handle.run_id
    assert len(notes) == 1
    assert "run 'large'" in notes[0]
    assert "lost: source of rms_norm" in notes[0]
    assert "No space left on device" in notes[0]


def test_a_database_that_cannot_grow(full_disk, notes):
    with open("mlruns/filler", "wb", buffering=0) as filler:
        try:
            while filler.write(b"\0" * 4096):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017  the disk is meant to be full
    assert log_everything(Tracker(notify=notes.append))[1] == 42
    assert len(notes) == 1
    assert "full" in notes[0] or "No space left" in notes[0]


def test_a_directory_that_cannot_be_written(on, notes):
    (on / "mlruns").write_text("a file where the folder should be")
    assert log_everything(Tracker(notify=notes.append)) == ("", 42)
    assert len(notes) == 1
    assert "run 'doomed' is not recorded: mlruns/mlflow.db: FileExistsError" in notes[0]


def test_a_database_of_something_else(on, notes):
    (on / "mlruns").mkdir()
    local_store().write_bytes(b"this is no database, but it is long enough to look at" * 100)
    assert log_everything(Tracker(notify=notes.append)) == ("", 42)
    assert len(notes) == 1
    assert "run 'doomed' is not recorded: mlruns/mlflow.db: " in notes[0]


def test_without_a_place_for_files_the_numbers_are_kept(tracker, notes, monkeypatch):
    monkeypatch.setattr(mlflow_store.MlflowStore, "write_files", refuse)
    log_everything(tracker)
    [run] = tracker.query_runs()
    assert (run.status, run.tier) == ("FINISHED", "kernel")
    assert {"rms_norm_passed", "macro_score", "x"} < run.metrics.keys()
    assert "kernel_sha256.rms_norm" not in run.tags
    assert notes[0].endswith("lost: source of rms_norm, sources of the kernels, results file and errors, plots, "
                             "eval results file ([Errno 28] No space left on device)")


def test_a_plot_that_cannot_be_drawn_costs_the_plots_only(tracker, notes, monkeypatch):
    def broken(result):
        raise ZeroDivisionError("no area")

    monkeypatch.setattr("fastkernels.report.plots", broken)
    with tracker.start_run("x"):
        tracker.log_kernel_bench(bench())
    assert notes[0].endswith("lost: plots (ZeroDivisionError: no area)")
    assert tracker.query_runs()[0].metrics["rms_norm_passed"] == 2


def test_without_the_packages_of_plots_a_run_is_complete(tracker, notes, monkeypatch):
    monkeypatch.setattr("fastkernels.report.figures.find_spec", lambda name: None)
    monkeypatch.setattr("fastkernels.report.figures.require_extra.__defaults__", (lambda name: None,))
    with tracker.start_run("x"):
        tracker.log_kernel_bench(bench())
    assert notes == []


@pytest.mark.parametrize(("method", "arguments"), [
    ("log_kernel_bench", [None]), ("log_eval", [{"no": "report"}]), ("log_e2e", [None, "serve"]),
    ("log_metrics", [None]), ("log_metrics", [[1]]), ("log_kernel", [None, None, None])])
def test_wrong_arguments_are_reported_and_cost_nothing_else(tracker, notes, method, arguments):
    with tracker.start_run("x"):
        getattr(tracker, method)(*arguments)
        tracker.log_metrics({"kept": 1})
    assert len(notes) == 1
    assert "is not complete; lost: " in notes[0]
    assert tracker.query_runs()[0].metrics == {"kept": 1}


def test_by_default_the_loss_is_a_warning(on):
    (on / "mlruns").write_text("")
    with pytest.warns(TrackingWarning, match="run 'doomed' is not recorded") as caught:
        log_everything(Tracker())
    assert len(caught) == 1


def test_a_call_in_time_returns_or_raises():
    assert call_within(5.0, lambda: 7) == 7
    with pytest.raises(KeyError):
        call_within(5.0, lambda: {}["x"])
    with pytest.raises(TimeoutError, match=r"no end after 0\.05 s"):
        call_within(0.05, threading.Event().wait)
