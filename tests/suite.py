"""The three sizes of this project's own suite: a plugin that leaves tests out and says so; conftest.py loads it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastkernels.env import chosen_tests

SIZES = ("quick", "usual", "all")
"""What FASTKERNELS_TESTS may say: under 90 s while working, what `make test` runs (the default), everything."""
EXHAUSTIVE = "exhaustive (FASTKERNELS_TESTS=all runs them)"
SLOW = "slow"
COSTLY = "in costly places"
NOT_QUICK: tuple[str, ...] = (
    "benchmarks", "bench/isolate", "bench/kernels", "bench/timing", "bench/tracking", "cli", "engine", "examples",
    "models", "plugin/test_benchmark.py", "plugin/test_fixtures.py", "plugin/test_real.py", "plugin/test_tracking.py",
    "plugin/test_xdist.py", "redteam", "tasks", "test_packaging.py",
)
"""Costly places: directories and files below `tests` that the quick size leaves out, since they start workers, models,
servers, processes or kernels."""
NOT_QUICK_MARKS = {"slow": SLOW, "browser": COSTLY}
LEFT_OUT = pytest.StashKey[Counter[str]]()
"""How many tests were left out by reason, for the run's summary."""


def exhaustive(*values: Any) -> list[Any]:
    """Parameters of a sweep that only `make test-all` runs; a tuple stands for several arguments."""
    return [pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.exhaustive)
            for value in values]


def pytest_configure() -> None:
    """Refuse a size that there is not."""
    require_size()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what the size leaves out, except what the command line names; counted by reason in config's stash."""
    size, counts = require_size(), Counter[str]()
    kept, left = [], []
    for item in items:
        reason = "" if _is_named(config, item) else _reason(config, item, size)
        (left if reason else kept).append(item)
        if reason:
            counts[reason] += 1
    if left:
        items[:] = kept
        config.hook.pytest_deselected(items=left)
    config.stash[LEFT_OUT] = counts
    if hasattr(config, "workeroutput"):  # a worker of xdist: what it deselects is not told to the user otherwise
        config.workeroutput["left_out"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of xdist left out: each collects the same."""
    counts = getattr(node, "workeroutput", {}).get("left_out")
    if counts is not None:
        node.config.stash[LEFT_OUT] = Counter(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were left out and why."""
    counts = config.stash.get(LEFT_OUT, Counter())
    if counts:
        said = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        terminalreporter.write_line(f"deselected: {said}")


def require_size() -> str:
    """The size that FASTKERNELS_TESTS asks for; a usage error where there is none of that name."""
    size = chosen_tests() or "usual"
    if size not in SIZES:
        raise pytest.UsageError(f"FASTKERNELS_TESTS: {size!r} is not one of {', '.join(SIZES)}")
    return size


def _reason(config: pytest.Config, item: pytest.Item, size: str) -> str:
    """Why a run of this size is without a test; empty where it is not."""
    asked = str(config.option.markexpr)  # -m decides alone about a marker that it mentions
    if size != "all" and item.get_closest_marker("exhaustive") and "exhaustive" not in asked:
        return EXHAUSTIVE
    if size != "quick":
        return ""
    for mark, reason in NOT_QUICK_MARKS.items():
        if item.get_closest_marker(mark) and mark not in asked:
            return reason
    root = Path(__file__).parent
    return COSTLY if any(item.path.is_relative_to(root / place) for place in NOT_QUICK) else ""


def _is_named(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether an argument such as `tests/test_x.py::test_y` names the test, or its function or class."""
    own = item.nodeid.partition("::")[2]
    for word in config.args:
        path, _, name = word.partition("::")
        is_its_file = name and (config.invocation_params.dir / path).resolve() == item.path
        if is_its_file and (own == name or own.startswith((f"{name}[", f"{name}::"))):
            return True
    return False
