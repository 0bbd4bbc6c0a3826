"""Tracking switched on, a store in a temporary directory, and a real MLflow server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import Server, copy_tables, start_server

from fastkernels.bench.tracking import Tracker, tracking_uri


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[Server]:
    """One server for the tests, which only add runs to it."""
    started = start_server(tmp_path_factory.mktemp("server"), tables)
    yield started
    started.kill()


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
    copy_tables(tables, on)
    return tracking_uri()


@pytest.fixture
def notes() -> list[str]:
    """What the tracker tells its user."""
    return []


@pytest.fixture
def tracker(local: str, notes: list[str]) -> Tracker:
    """A tracker on the local store."""
    return Tracker(notify=notes.append)
