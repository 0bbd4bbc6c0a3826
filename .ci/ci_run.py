"""Runs CI's parts one after the other and says what each has cost: `python3 .ci/ci_run.py`, which `.ci/run` calls.

A part that fails ends the run with its exit status. The table of costs is printed all the same. A run that costs more
than twice its budget fails (`ci_budgets.py`).
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ci_budgets import BUDGETS, Budgets, Cost, findings, known_work, read_budgets, scale, table
from ci_meter import Meter, open_meter

ROOT = Path(__file__).resolve().parents[1]
BROWSER = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
"""Tests that look at pages need a Chromium."""
PARTS = {"install": ["make", "install"], "check": ["make", "check"], "test": ["make", "test"], "demo": ["make", "demo"],
         "redteam": ["make", "redteam-sample"]}
"""One after the other; the browser is fetched beside the first two."""
NAMES = ("browser", *PARTS)
BEFORE = "test"
"""The part that needs the browser."""
TOO_DEAR = 3
"""Exit status of a run that is right and costs more than twice its budget."""


class PartFailed(Exception):  # noqa: N818  it says what happened
    """A part ended with an exit status."""

    def __init__(self, part: str, status: int) -> None:
        super().__init__(f"{part} failed with exit status {status}")
        self.status = status


@dataclass
class Running:
    """A part that has been started."""

    name: str
    """Its name."""
    process: "subprocess.Popen[bytes]"
    """Its first process."""
    meter: Meter
    """Its CPU seconds."""
    started: float = field(default_factory=time.monotonic)
    """Monotonic clock."""

    @classmethod
    def start(cls, name: str, command: list[str], output: IO[bytes] | None = None) -> "Running":
        """Start a command, its output to this file where one is given."""
        meter = open_meter()
        process = subprocess.Popen([*meter.prefix, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output and subprocess.STDOUT)
        meter.follow(process.pid)
        return cls(name, process, meter)

    def wait(self) -> int:
        """Its exit status, as a shell has it; the part is ended where this wait is."""
        try:
            status = self.process.wait()
        except BaseException:
            self.end()
            raise
        return status if status >= 0 else 128 - status

    def cost(self) -> Cost:
        """What it took so far; says which of its processes are left."""
        wall_s = time.monotonic() - self.started
        cpu_s, left = self.meter.stop()
        for process in left:
            print(f"ci: {self.name} has left a process behind: {process}", flush=True)
        return Cost(self.name, wall_s, cpu_s)

    def end(self) -> None:
        """End it and wait."""
        self.process.terminate()
        self.process.wait()


class Run:
    """One run of CI: costs of its parts so far."""

    def __init__(self, budgets: Budgets, work: Callable[[], float] = known_work) -> None:
        self.budgets = budgets
        self.costs: list[Cost] = []
        self.how = ""
        self._work = work
        self._browser: Running | None = None
        self._took_s = [work()]

    def all(self, parts: dict[str, list[str]], browser: list[str] | None) -> None:
        """Run the parts; PartFailed at the first that fails."""
        with tempfile.TemporaryFile() as output:
            if browser:
                self._browser = Running.start("browser", browser, output)
            try:
                for name, command in parts.items():
                    if name == BEFORE:
                        self._wait_for_browser(output)
                    self._one(name, command)
                self._wait_for_browser(output)
            finally:
                if self._browser:
                    self._browser.end()
                    self._note(self._browser.cost())

    def _one(self, name: str, command: list[str]) -> None:
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        running = Running.start(name, command)
        self.how = running.meter.how
        try:
            status = running.wait()
        finally:
            self._note(running.cost())
        if status != 0:
            raise PartFailed(name, status)

    def _note(self, cost: Cost) -> None:
        """Keep a part's cost with how slow the machine was before and after it."""
        self._took_s.append(self._work())
        slower = scale(self.budgets, *self._took_s[-2:])
        self.costs.append(Cost(cost.part, cost.wall_s, cost.cpu_s, slower))
        print(f"== {cost.part}: {cost.wall_s:.0f} s, {cost.cpu_s:.0f} CPU s", flush=True)

    def _wait_for_browser(self, output: IO[bytes]) -> None:
        if not self._browser:
            return
        status = self._browser.wait()
        self._note(self._browser.cost())
        self._browser = None
        if status != 0:
            output.seek(0)
            print(f"ci: no Chromium could be installed:\n{output.read().decode(errors='replace')}", flush=True)
            raise PartFailed("browser", status)


def report(run: Run) -> int:
    """Print the table and what is over; the exit status that costs alone give."""
    over, failed = findings(run.budgets, run.costs)
    print(f"\n{table(run.budgets, run.costs, run.how or 'no part has ended')}")
    for line in (*over, *failed):
        print(f"OVER BUDGET: {line}")
    if failed:
        print("FAILED: over twice the budget. benchmarks/suite_costs.py shows what each test file costs.")
    return TOO_DEAR if failed else 0


def main() -> int:
    """Run CI; 0, the status of the part that failed, or TOO_DEAR."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run = Run(read_budgets(BUDGETS, NAMES))
    failure = ""
    try:
        run.all(PARTS, None if shutil.which("chromium") else ["sh", "-c", BROWSER])
        status = 0
    except PartFailed as error:
        status, failure = error.status, str(error)
    finally:
        dear = report(run)
        if failure:
            print(f"FAILED: {failure}")
    return status or dear


if __name__ == "__main__":
    sys.exit(main())
