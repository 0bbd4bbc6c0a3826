"""A tiny saved model."""

import shutil
from pathlib import Path

import pytest
from models.parity import Tiny, make_tiny


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A Llama with its weights in one file; not to be changed."""
    return make_tiny({"model_type": "llama"}, tmp_path_factory.mktemp("saved"))


@pytest.fixture
def directory(saved: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to break, as `model` in the working directory, to which messages refer."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(saved.directory, tmp_path / "model"))
