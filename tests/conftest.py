"""Fixtures for all tests, and the one place that skips tests for want of a GPU or a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import find_browser

from fastkernels.env import require_browser, require_gpu

SCREENSHOTS = Path(__file__).parents[1] / "build" / "screenshots"


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


NEEDS: dict[str, tuple[Callable[[], bool], Callable[[], Any], str]] = {
    "gpu": (require_gpu, has_gpu, "no CUDA device"),
    "browser": (require_browser, find_browser, "no Chromium"),
}
"""By marker: whether its absence is a failure, whether it is here, and the reason of a skip."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` or `browser` where there is none; with FASTKERNELS_REQUIRE_...=1 they run and fail."""
    for name, (is_required, is_here, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not is_required() and not is_here():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs within tests are not tracked; tests of tracking switch it on again."""
    monkeypatch.setenv("FASTKERNELS_TRACKING", "off")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium (playwright's `Browser`)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where tests leave pictures for a person to look at: build/screenshots, not in git."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
