"""Writes what each test costs: `pytest -p benchmarks.suite_costs_plugin --costs-dir DIR`; `suite_costs.py` adds it up.

Each process that runs tests (pytest's own, or each of xdist's workers) writes one file, DIR/PID.jsonl, a test a line.
"""

import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / ".ci"))
from ci_meter import GroupMeter, open_group

COSTS = pytest.StashKey["Costs"]()


class Costs:
    """This process's meter and file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / f"{os.getpid()}.jsonl").open("w")
        self._group: GroupMeter | None = open_group()
        if self._group:
            self._group.enter()

    def now(self) -> tuple[float, float, float]:
        """Wall seconds, and CPU seconds of this process and of what it has started: exact in a control group.

        Without one only ended processes count that somebody waited for.
        """
        times = os.times()
        own_s = times.user + times.system
        below_s = self._group.cpu_s() - own_s if self._group else times.children_user + times.children_system
        return time.monotonic(), own_s, below_s

    def write(self, test: str, before: tuple[float, float, float]) -> None:
        """One line for a test that began at `before`."""
        wall_s, own_s, below_s = (end - start for start, end in zip(before, self.now(), strict=True))
        row = {"test": test, "wall_s": wall_s, "own_cpu_s": own_s, "below_cpu_s": max(0.0, below_s),
               "exact": self._group is not None}
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Close the file and leave the control group."""
        self._file.close()
        if self._group:
            self._group.leave()
            self._group.stop()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The folder, an option, since xdist hands options on to its workers."""
    parser.addoption("--costs-dir", type=Path, help="write what each test costs into this folder")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to measure in a process that runs tests; xdist's controller runs none."""
    directory = config.getoption("--costs-dir")
    if directory and (os.environ.get("PYTEST_XDIST_WORKER") or not config.getoption("numprocesses", None)):
        config.stash[COSTS] = Costs(directory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One test with its set-up and tear-down; a fixture of the session counts for the first test that asks for it."""
    costs = item.config.stash.get(COSTS, None)
    before = costs.now() if costs else None
    try:
        return (yield)
    finally:
        if costs and before:
            costs.write(item.nodeid, before)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write what is left."""
    costs = config.stash.get(COSTS, None)
    if costs:
        costs.close()
