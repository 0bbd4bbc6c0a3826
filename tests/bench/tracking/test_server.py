"""A team's MLflow server: the same calls, read back over HTTP, and what is kept where it is lost in the middle."""

import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow_server import client_of
from tracked_results import CODE, bench, failed

from fastkernels.bench.tracking import Tracker, tracker
from fastkernels.bench.tracking.kernel_files import made
from fastkernels.errors import TrackingError


class Wire:
    """An address that leads to a server until it is cut: what a client sees of a server that is killed."""

    def __init__(self, uri: str) -> None:
        self.far = (urlsplit(uri).hostname, urlsplit(uri).port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.is_cut = False
        self.thread = threading.Thread(target=self.carry)
        self.thread.start()

    def carry(self) -> None:
        """Pass on what either side of a connection sends; all connections end when the wire is cut."""
        with selectors.DefaultSelector() as ready, self.listener:
            ready.register(self.listener, selectors.EVENT_READ)
            while not self.is_cut:
                for key, _ in ready.select(0.05):
                    if key.fileobj is self.listener:
                        near, far = self.listener.accept()[0], socket.create_connection(self.far)
                        ready.register(near, selectors.EVENT_READ, far)
                        ready.register(far, selectors.EVENT_READ, near)
                    elif sent := key.fileobj.recv(65536):
                        key.data.sendall(sent)
                    else:
                        for end in (key.fileobj, key.data):
                            ready.unregister(end)
                            end.close()
                        break  # the other end may stand in this very list
            for key in list(ready.get_map().values()):
                key.fileobj.close()

    def cut(self) -> None:
        self.is_cut = True
        self.thread.join()


@pytest.fixture
def wire(server) -> Iterator[Wire]:
    wire = Wire(server.uri)
    yield wire
    wire.cut()


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


def test_a_server_that_is_lost_in_the_middle(on, notes, wire):
    tracker = Tracker(wire.uri, notes.append)
    with tracker.start_run("half") as handle:
        tracker.log_kernel("rms_norm", 1, CODE)
        wire.cut()
        tracker.log_kernel_bench(bench(kernels=(made("rms_norm", 1, "later"),)))
        tracker.log_metrics({"x": 1})
    assert handle.run_id
    assert len(notes) == 1
    assert f"run 'half' ({handle.run_id} in {wire.uri}) is not complete; lost: " in notes[0]
    for part in ("sources of the kernels", "results file and errors", "plots", "metrics of the kernel run", "metrics x",
                 "its end"):
        assert part in notes[0]
    with pytest.raises(TrackingError, match="no answer"):
        tracker.query_runs()
