"""A real MLflow server on loopback, MLflow's own client, and stores whose tables are made already."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastkernels.bench.tracking import local_store

START_S = 120
"""Longest wait for a server; it takes 5 to 20 s."""


@dataclass
class Server:
    """A running `mlflow server`."""

    uri: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it and its workers at once, as a crash would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    """A port that is free, and that no connection takes while a server starts: below those the system hands out."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def start_server(folder: Path, tables: Path) -> Server:
    shutil.copy(tables, folder / "server.db")
    port = free_port()
    # jobs and litellm's price list would reach for the network and take three times as long
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    server = Server(f"http://127.0.0.1:{port}", process)
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{server.uri}/health", timeout=5):
                return server
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise RuntimeError(f"mlflow server: {(folder / 'server.log').read_text()[-3000:]}") from error
            time.sleep(0.2)


def copy_tables(tables: Path, directory: Path) -> None:
    """Let the store of `directory` begin with these tables; MLflow takes a second to make them."""
    file = local_store(directory)
    file.parent.mkdir(exist_ok=True)
    shutil.copy(tables, file)


def client_of(uri: str) -> Any:
    """MLflow's own client; its import warns of what is none of this project's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        return MlflowClient(uri, uri)
