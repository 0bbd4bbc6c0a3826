"""Starts MLflow's server for a local store as a process group of its own, and ends it whole."""

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from fastkernels.errors import TrackingError

START_TIMEOUT_S = 120.0
"""Longest wait for the first answer; it takes 5 to 8 s on two idle cores, longer where the store's tables are made."""
STOP_TIMEOUT_S = 5.0
"""Wait for an orderly end before the processes are killed."""
TAIL_LINES = 15
"""Lines of the server's log that an error shows."""
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Without jobs the server is up in half the time and a third of the memory; the rest would reach for the network, and
wait for ever where there is none."""
_VIEW = "workflowType=machine_learning"
"""Which of its menus MLflow shows: the one for runs with metrics, not the one for traces of language models."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    """Where a browser of this machine finds it."""
    process: subprocess.Popen[bytes]
    """Leader of its process group."""
    log: IO[bytes]
    """What it wrote."""

    def wait(self) -> None:
        """Wait until it ends; TrackingError since nobody asked it to."""
        status = self.process.wait()
        raise TrackingError(f"MLflow's server ended by itself with status {status}:\n{_tail(self.log)}")

    def page_of(self, experiment: str) -> str:
        """Address of the page with an experiment's runs; the start page while there is no such experiment."""
        path = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
        try:
            found = json.loads(_get(self.url + path))
        except HTTPError as error:
            if error.code == 404:
                return self.url
            raise TrackingError(f"MLflow's server answers {error.code} for experiment {experiment}:\n"
                                f"{_tail(self.log)}") from error
        return f"{self.url}/#/experiments/{found['experiment']['experiment_id']}/runs?{_VIEW}"


@contextmanager
def started(store: str, artifacts: str, host: str, port: int) -> Iterator[Server]:
    """Run the server for a `with` block; TrackingError where it cannot start.

    Whatever ends the block ends the server and all its children, as does the end of this process (on Linux).
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--default-artifact-root",
               artifacts, "--host", host, "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT},
            start_new_session=True, preexec_fn=_end_with_parent if sys.platform == "linux" else None)
        try:
            server = Server(f"http://{_reachable(host)}:{port}", process, log)
            _await_answer(server)
            yield server
        finally:
            _stop(process)


def require_free(host: str, port: int) -> None:
    """Check that a server can listen there; TrackingError that says what is wrong."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except socket.gaierror as error:
        raise TrackingError(f"--host: {host!r} is no address of this machine: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise TrackingError(f"port {port} of {host} is in use (by another mlflow-ui perhaps); choose another with "
                                f"--port, such as --port {port + 1 if port < 65535 else port - 1}") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise TrackingError(f"--host: {host!r} is no address of this machine") from error
        raise TrackingError(f"cannot listen on port {port} of {host}: {error.strerror}; choose another with --port"
                            ) from error


def _reachable(host: str) -> str:
    """The host as a URL on this machine has it: an address that stands for all of them is none to connect to."""
    named = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{named}]" if ":" in named else named


def _await_answer(server: Server) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while server.process.poll() is None:
        try:
            _get(f"{server.url}/health")
        except (URLError, OSError):
            if time.monotonic() > end:
                raise TrackingError(f"MLflow's server does not answer after {START_TIMEOUT_S:.0f} s:\n"
                                    f"{_tail(server.log)}") from None
            time.sleep(0.1)
        else:
            return
    raise TrackingError(f"MLflow's server did not start (status {server.process.returncode}):\n{_tail(server.log)}")


def _get(url: str) -> bytes:
    """Ask this machine, past any proxy that the environment names."""
    with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
        content: bytes = answer.read()
        return content


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: orderly, then by force, at once where the wait is interrupted."""
    try:
        _signal_group(process, signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass  # the kill below is for this
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # where the last of the group has ended
        os.killpg(process.pid, number)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:]) or "  (it wrote nothing)"
