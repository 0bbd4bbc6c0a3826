"""What each test file costs: `python benchmarks/suite_costs.py [--json FILE] [--against FILE] [-- PYTEST ARGUMENTS]`.

Runs the tests and prints, by file, wall seconds and CPU seconds of the test process and of all that it started, dearest
first. `--against` an earlier `--json` shows what has been added since. CPU seconds tell more than wall seconds on a
shared machine. Workers that a starter forks count for the file that asked for them where one process runs all tests
(the default); under `-n 2` the starters are the controller's, and their share is only in the sum that no file is
charged for.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / ".ci"))
from ci_meter import open_meter  # noqa: E402  found by the line above

NOISE_S = 0.5
"""A change of a file below this many CPU seconds, or below a tenth, is not shown."""


@dataclass
class FileCost:
    """What the tests of one file took together."""

    tests: int = 0
    """How many ran."""
    wall_s: float = 0.0
    """Wall seconds, as if one after the other."""
    own_cpu_s: float = 0.0
    """CPU seconds of the process that ran them."""
    below_cpu_s: float = 0.0
    """CPU seconds of all processes that it started."""

    @property
    def cpu_s(self) -> float:
        """Both."""
        return self.own_cpu_s + self.below_cpu_s


def add_up(rows: Iterable[Mapping[str, Any]]) -> dict[str, FileCost]:
    """By file, dearest first, from the plugin's lines."""
    files: dict[str, FileCost] = {}
    for row in rows:
        cost = files.setdefault(row["test"].partition("::")[0], FileCost())
        cost.tests += 1
        cost.wall_s += row["wall_s"]
        cost.own_cpu_s += row["own_cpu_s"]
        cost.below_cpu_s += row["below_cpu_s"]
    return dict(sorted(files.items(), key=lambda item: -item[1].cpu_s))


def measure(arguments: list[str]) -> tuple[int, dict[str, FileCost], float, bool]:
    """pytest's exit status, costs by file, CPU seconds of the whole run, and whether killed processes are in there."""
    with tempfile.TemporaryDirectory(prefix="costs-") as scratch:
        meter = open_meter()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", "pytest", "-p", "benchmarks.suite_costs_plugin", f"--costs-dir={scratch}"]
        process = subprocess.Popen([*meter.prefix, *command, *arguments], env={**os.environ, "PYTHONPATH": path})
        meter.follow(process.pid)
        status = process.wait()
        total_s, _ = meter.stop()
        rows = [json.loads(line) for file in sorted(Path(scratch).glob("*.jsonl"))
                for line in file.read_text().splitlines()]
    return status, add_up(rows), total_s, all(row["exact"] for row in rows)


def table(files: Mapping[str, FileCost], total_cpu_s: float, top: int) -> str:
    """The dearest files, all of them, and what no file is charged for."""
    whole = FileCost(sum(file.tests for file in files.values()), *(
        sum(getattr(file, name) for file in files.values()) for name in ("wall_s", "own_cpu_s", "below_cpu_s")))
    lines = [f"{'tests':>6}{'wall s':>9}{'CPU s':>9}{'own':>8}{'below':>8}{'a test':>8}  file"]
    lines += [_row(cost, name) for name, cost in list(files.items())[:top]]
    if len(files) > top:
        lines.append(f"... {len(files) - top} files more")
    lines.append(_row(whole, f"{len(files)} files"))
    lines.append(f"the whole run: {total_cpu_s:.1f} CPU s, {total_cpu_s - whole.cpu_s:.1f} of them in no file's tests "
                 "(start, collection, starters that xdist's workers share)")
    return "\n".join(lines)


def _row(cost: FileCost, name: str) -> str:
    return (f"{cost.tests:6}{cost.wall_s:9.1f}{cost.cpu_s:9.1f}{cost.own_cpu_s:8.1f}{cost.below_cpu_s:8.1f}"
            f"{cost.cpu_s / max(cost.tests, 1):8.2f}  {name}")


def difference(old: Mapping[str, FileCost], new: Mapping[str, FileCost]) -> str:
    """Files that cost more or less than before, the largest change first."""
    changes = []
    for name in {*old, *new}:
        before, after = old.get(name, FileCost()), new.get(name, FileCost())
        change = after.cpu_s - before.cpu_s
        if abs(change) >= max(NOISE_S, before.cpu_s / 10):
            what = "new" if name not in old else "gone or not run" if name not in new else f"was {before.cpu_s:.1f}"
            changes.append((change, f"{change:+9.1f} CPU s  {after.tests - before.tests:+5d} tests  {name} ({what})"))
    lines = [line for _, line in sorted(changes, key=lambda pair: -abs(pair[0]))]
    sums = [sum(file.cpu_s for file in files.values()) for files in (old, new)]
    return "\n".join([*(lines or ["no file's cost has changed"]),
                      f"{sums[1] - sums[0]:+9.1f} CPU s in all ({sums[0]:.1f} before)"])


def read(path: Path) -> dict[str, FileCost]:
    """The files of an earlier run's JSON."""
    return {name: FileCost(**cost) for name, cost in json.loads(path.read_text())["files"].items()}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; pytest's exit status."""
    parser = argparse.ArgumentParser(description="What each test file costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the costs to this file")
    parser.add_argument("--against", type=Path, metavar="FILE", help="show what changed since this file was written")
    parser.add_argument("--top", type=int, default=40, metavar="N", help="files to print (default 40)")
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="for pytest, after --: files, -k, -n 2 and so on")
    args = parser.parse_args(argv)
    old = read(args.against) if args.against else None
    status, files, total_s, exact = measure(args.pytest)
    print(f"\n{table(files, total_s, args.top)}")
    if not exact:
        print("no control group can be made here: processes that nobody waited for are missing")
    if args.json:
        by_file = {name: asdict(cost) for name, cost in files.items()}
        content = {"exact": exact, "total_cpu_s": total_s, "files": by_file}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if old is not None:
        print(f"\n{difference(old, files)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
