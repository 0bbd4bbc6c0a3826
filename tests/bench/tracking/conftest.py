"""Tracking switched on, a store in a temporary directory, and a real MLflow server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import Server, client_of, start_server

from fastkernels.bench.tracking import Tracker, local_store, tracking_uri


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a file that only add runs to it."""
    started = start_server(tmp_path_factory.mktemp("server"))
    yield started
    started.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test, which may kill it."""
    folder = tmp_path / "server"
    folder.mkdir()
    started = start_server(folder)
    yield started
    started.kill()


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them, which takes seconds to make."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Tracking on, in a directory of its own; returns the directory."""
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def local(on: Path, tables: Path) -> str:
    """The URI of the local store of the working directory, its tables made; returns the URI."""
    file = local_store()
    file.parent.mkdir()
    shutil.copy(tables, file)
    return tracking_uri()


@pytest.fixture
def notes() -> list[str]:
    """What the tracker tells its user."""
    return []


@pytest.fixture
def tracker(local: str, notes: list[str]) -> Tracker:
    """A tracker on the local store."""
    return Tracker(notify=notes.append)
