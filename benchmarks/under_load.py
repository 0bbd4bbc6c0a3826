"""What is claimed on a busy machine: kernels against themselves, and runs of one file compared, beside busy processes.

    PYTHONPATH=. python3 benchmarks/under_load.py --minutes 3 --output under-load.jsonl
    PYTHONPATH=. python3 benchmarks/under_load.py --compare 20 --loads 2 --output under-load-compare.jsonl

For each load so many processes are started that never rest, and the shapes are graded in turn until the minutes are
over, each time in fresh worker processes. An interval without 1 is a false claim: at most 5 % are wanted at any load.
Scenarios without times are `noisy`. With --compare the shapes are graded once more than there are pairs, and each run
is compared with the one before it, as `fastkernels compare` does: of one file with itself no pair may fail. The load
that was there besides is printed: cores that neither the grader nor these processes took. The output is a log:
--table-only prints the tables of what is there.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.power import scenarios_of
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.timing.load import read_cores
from fastkernels.manifest import Scenario
from fastkernels.report import compare
from fastkernels.results import KernelBenchResult, ScenarioResult

SHAPES = ("rms_norm[llama31-8b-tp1-s1]", "rms_norm[llama31-8b-tp1-s8]", "rms_norm[llama31-8b-tp1-s32]",
          "rms_norm[llama31-8b-tp1-s128]", "silu_and_mul[llama32-1b-tp4-s32]", "linear[llama32-1b-tp4-s8-o_proj]")
"""Calls of 15 us to 1 ms, on one thread and on several."""

LOADS = (0, 1, 2, 4)
"""Busy processes beside."""


@contextlib.contextmanager
def busy(count: int) -> Iterator[list[psutil.Process]]:
    """Have `count` processes at work that never rest."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


class LoadBesides:
    """Cores that all processes took but this one's tree, the busy ones among it."""

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        cores = read_cores()
        return time.monotonic(), math.nan if cores is None else cores.busy_s + cores.stolen_s - own_cpu_s()

    def cores(self) -> float:
        """On average since this was made."""
        (started, before_s), (now, after_s) = self._before, self._now()
        return (after_s - before_s) / (now - started)


def own_cpu_s() -> float:
    """CPU seconds of this process and all that it started, ended ones included."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def graded(scenarios: list[Scenario], seed: int) -> list[ScenarioResult]:
    """Grade each against itself in fresh worker processes."""
    with KernelGrader(GraderSettings(device="cpu", seed=seed, self_test=True)) as grader:
        return [grader.grade(scenario) for scenario in scenarios]


def row_of(result: ScenarioResult, load: int) -> dict[str, Any]:
    """What is kept of one grading."""
    timing = result.timing
    times = {} if timing is None else {name: getattr(timing, name) for name in (
        "speedup", "speedup_low", "speedup_high", "baseline_s", "candidate_s", "disturbed_rounds")}
    return {"kind": "graded", "load": load, "shape": result.id, "verdict": str(result.verdict),
            "message": result.message, "noise": result.noise and result.noise.reason,
            "not_timed": result.evidence if timing is None else "", "wall_s": round(result.wall_s, 2), **times}


def self_comparisons(scenarios: list[Scenario], load: int, minutes: float) -> Iterator[dict[str, Any]]:
    """Rows of one load until the time is over, then one on the load besides."""
    end, seed = time.monotonic() + 60 * minutes, 0
    with busy(load):
        besides = LoadBesides()
        while time.monotonic() < end:
            seed += 1
            yield from (row_of(result, load) for result in graded(scenarios, seed))
        yield {"kind": "load", "load": load, "besides": round(besides.cores(), 2)}


def compared(scenarios: list[Scenario], load: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Rows of runs of the same file, each compared with the one before."""
    with busy(load):
        besides = LoadBesides()
        before: KernelBenchResult | None = None
        for seed in range(pairs + 1):
            now = KernelBenchResult(tuple(graded(scenarios, seed)))
            if before is not None:
                found = compare(before, now)
                yield {"kind": "compared", "load": load, "failures": found.failures,
                       "counts": {str(status): count for status, count in found.counts.items()}}
            before = now
        yield {"kind": "load", "load": load, "besides": round(besides.cores(), 2)}


def table(rows: list[dict[str, Any]]) -> str:
    """The tables, as docs have them."""
    lines = []
    loads = sorted({row["load"] for row in rows})
    if any(row["kind"] == "graded" for row in rows):
        lines += ["| busy processes | load besides | gradings | noisy | timed | interval without 1 | "
                  "median half-width | seconds a grading |", "|---|---|---|---|---|---|---|---|"]
        lines += [_self_line(load, [row for row in rows if row["load"] == load]) for load in loads]
    pairs = [row for row in rows if row["kind"] == "compared"]
    for load in sorted({row["load"] for row in pairs}):
        own = [row for row in pairs if row["load"] == load]
        counts = {name: sum(row["counts"].get(name, 0) for row in own) for row in own for name in row["counts"]}
        lines.append(f"{load} busy processes, load besides {_besides(rows, load)}: compare passed "
                     f"{sum(not row['failures'] for row in own)} of {len(own)} pairs of runs of one file; scenarios: "
                     + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return "\n".join(lines)


def _self_line(load: int, rows: list[dict[str, Any]]) -> str:
    graded_rows = [row for row in rows if row["kind"] == "graded"]
    timed = [row for row in graded_rows if "speedup" in row]
    noisy = sum(row["noise"] is not None for row in graded_rows)
    false = sum(not row["speedup_low"] <= 1 <= row["speedup_high"] for row in timed)
    widths = [(row["speedup_high"] - row["speedup_low"]) / 2 for row in timed]
    width = f"{statistics.median(widths):.1%}" if widths else "-"
    share = f" ({false / len(timed):.1%})" if timed else ""
    seconds = statistics.fmean(row["wall_s"] for row in graded_rows) if graded_rows else math.nan
    return (f"| {load} | {_besides(rows, load)} | {len(graded_rows)} | {noisy} | {len(timed)} | "
            f"{false} of {len(timed)}{share} | {width} | {seconds:.1f} |")


def _besides(rows: list[dict[str, Any]], load: int) -> str:
    found = [row["besides"] for row in rows if row["kind"] == "load" and row["load"] == load]
    return f"{statistics.fmean(found):.1f} cores" if found else "unknown"


def main() -> None:
    """Grade, log, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes at each load (default: 3)")
    parser.add_argument("--loads", type=lambda text: [int(word) for word in text.split(",")], default=list(LOADS),
                        help="busy processes beside (default: 0,1,2,4)")
    parser.add_argument("--shape", action="append", dest="shapes", help="addresses in place of the six")
    parser.add_argument("--compare", type=int, metavar="PAIRS",
                        help="compare so many pairs of runs at each load instead")
    parser.add_argument("--output", type=Path, required=True, help="log of rows, added to")
    parser.add_argument("--table-only", action="store_true", help="grade nothing")
    args = parser.parse_args()
    scenarios = scenarios_of(args.shapes or SHAPES)
    for load in [] if args.table_only else args.loads:
        print(f"{load} busy processes on {len(os.sched_getaffinity(0))} cores", flush=True)
        rows = compared(scenarios, load, args.compare) if args.compare else self_comparisons(scenarios, load,
                                                                                              args.minutes)
        with args.output.open("a") as log:
            for row in rows:
                log.write(json.dumps(row) + "\n")
                log.flush()
    print(table([json.loads(line) for line in args.output.read_text().splitlines()]))


if __name__ == "__main__":
    main()
