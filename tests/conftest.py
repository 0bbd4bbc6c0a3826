"""Fixtures for all tests, and the one place that leaves tests out: by size (suite.py), for want of a GPU or browser."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import suite
from browser import find_browser
from filelock import FileLock
from mlflow_server import client_of
from ranks import Ranks

from fastkernels.bench.isolate import launch
from fastkernels.env import require_browser, required_gpus

SCREENSHOTS = Path(__file__).parents[1] / "build" / "screenshots"


def has_gpus(count: int) -> bool:
    import torch

    return torch.cuda.device_count() >= count


NEEDS: dict[str, tuple[Callable[[], bool], Callable[[], Any], str]] = {
    "gpu": (lambda: required_gpus() >= 1, lambda: has_gpus(1), "no CUDA device"),
    "two_gpus": (lambda: required_gpus() >= 2, lambda: has_gpus(2), "fewer than two CUDA devices"),
    "browser": (require_browser, find_browser, "no Chromium"),
}
"""By marker: whether its absence is a failure, whether it is here, and the reason of a skip."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose tests by the size of the run; what a test starts is no worker of this run's xdist."""
    config.pluginmanager.register(suite, "suite")
    if is_controller(config):
        os.environ |= launch.share()
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        del os.environ[name]


def is_controller(config: pytest.Config) -> bool:
    """Whether xdist's workers follow, which share this process's starters with all that their tests start."""
    return bool(config.getoption("tx", None)) and not hasattr(config, "workerinput")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests by marker where what they need is missing; with FASTKERNELS_REQUIRE_... they run and fail."""
    for name, (is_required, is_here, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not is_required() and not is_here():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs within tests are not tracked; tests of tracking switch it on again."""
    monkeypatch.setenv("FASTKERNELS_TRACKING", "off")


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    """What a test has had torch.compile specialise counts against no other; of one function it keeps eight versions."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium (playwright's `Browser`)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them, made once for all of xdist's workers.

    Loads mlflow, which runs of pytester within a test would load anew each.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if hasattr(request.config, "workerinput") else base
    path = folder / "mlflow-tables.db"
    with FileLock(folder / "mlflow-tables.lock"):
        client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Two tensor parallel ranks with gloo; some seconds to start, once a session."""
    ranks = Ranks(2, tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.stop()


@pytest.fixture(scope="session")
def gpu_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Two tensor parallel ranks with NCCL, a GPU each."""
    ranks = Ranks(2, tmp_path_factory.mktemp("ranks"), "nccl")
    yield ranks
    ranks.stop()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where tests leave pictures for a person to look at: build/screenshots, not in git."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
