"""A/A and power of the whole grader: kernels graded against themselves and against copies slowed by 2, 5 and 10 %.

    PYTHONPATH=. python3 benchmarks/power.py --minutes 6 --output power.jsonl
    PYTHONPATH=. python3 benchmarks/power.py --device cuda --minutes 6 --output power-cuda.jsonl

A round grades every shape against itself in two fresh pairs of worker processes, and each slowed copy in one. A copy
calls its own kernel once more on a share of the rows. What that costs is measured apart from the grader, by alternating
calls in one process, and stated as the true slowdown. The output is a log: the same command goes on where it stopped.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.slowed import write_copies
from fastkernels.bench.isolate.launch import EQUAL_TERMS
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.timing import describe_environment
from fastkernels.errors import FastKernelsError, did_you_mean
from fastkernels.manifest import Scenario, Selection, load_manifest

SHAPES = {
    "cpu": ("rms_norm[llama32-1b-tp1-s512]", "silu_and_mul[llama32-1b-tp4-s512]",
            "linear[llama32-1b-tp4-s512-o_proj]"),
    "cuda": ("rms_norm[llama31-405b-tp1-s8192]", "silu_and_mul[llama31-70b-tp1-s8192]",
             "linear[llama31-70b-tp1-s8192-o_proj]"),
}
"""Addresses that are graded by default; on CUDA calls of 0.1 ms and more, beside which one launch more is little."""

SLOWER = (0.02, 0.05, 0.10)
"""Shares by which copies are slowed."""

SELF_PAIRS = 2
"""Pairs of a round that grade kernels against themselves."""

WIDE = 0.2
"""Width of an interval whose samples are logged too: something disturbed it."""

TRUTH_S = 6.0
"""Time for measuring one copy's true slowdown, in seconds."""


def scenarios_of(addresses: Iterable[str]) -> list[Scenario]:
    """Scenarios by address; ValueError with the nearest one where there is none."""
    every = {scenario.id: scenario for scenario in load_manifest().scenarios(Selection())}
    for address in addresses:
        if address not in every:
            raise ValueError(f"--shape: {address!r} is no address of the manifest{did_you_mean(address, every)}")
    return [every[address] for address in addresses]


def settings_of(options: argparse.Namespace, number: int) -> GraderSettings:
    """The default settings with a seed of the round's own."""
    return GraderSettings(device=options.device, seed=1000 + number, num_runs=options.num_runs,
                          max_time_s=options.max_time)


def grade(settings: GraderSettings, scenarios: list[Scenario]) -> Iterator[dict[str, Any]]:
    """Grade in a fresh pair of processes; one row for each scenario, whatever its verdict."""
    with KernelGrader(settings) as grader:
        for scenario in scenarios:
            result = grader.grade(scenario)
            timing = result.timing
            numbers = {} if timing is None else {
                name: getattr(timing, name)
                for name in ("speedup", "speedup_low", "speedup_high", "baseline_s", "candidate_s", "runs")
            }
            if timing is not None and timing.speedup_high - timing.speedup_low > WIDE:
                numbers |= {"baseline_samples_s": timing.baseline_samples_s,
                            "candidate_samples_s": timing.candidate_samples_s}
            yield {"kind": "graded", "shape": scenario.id, "verdict": str(result.verdict), "message": result.message,
                   "wall_s": round(result.wall_s, 2), **numbers}


def true_slowdowns(requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Measure copies beside their originals in a process of their own, which shares nothing with the grader's timer."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.slowed"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, env={**EQUAL_TERMS, **os.environ})
    with process:
        assert process.stdin
        assert process.stdout
        for request in requests:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the process that measures true slowdowns ended; its message stands above")
            yield json.loads(line)


def calibrated(root: Path, scenarios: list[Scenario], options: argparse.Namespace,
               rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Write the copies; yields what was measured of those whose truth `rows` lacks."""
    known = {(row["shape"], row["slower"]): row["share"] for row in rows if row["kind"] == "truth"}
    missing = [(s, slower) for slower in SLOWER for s in scenarios if (s.id, slower) not in known]
    for slower in SLOWER:
        write_copies(root / f"{slower:g}", scenarios, {s.id: slower for s in scenarios})
    requests = [{"directory": str(root / f"{slower:g}"), "scenario": s.to_dict(), "device": options.device,
                 "wanted": slower, "seconds": TRUTH_S} for s, slower in missing]
    for (scenario, slower), truth in zip(missing, true_slowdowns(requests) if requests else (), strict=True):
        known[scenario.id, slower] = truth["share"]
        yield {"kind": "truth", "shape": scenario.id, "slower": slower, **truth}
    for slower in SLOWER:
        write_copies(root / f"{slower:g}", scenarios, {s.id: known[s.id, slower] for s in scenarios})


def rounds(root: Path, scenarios: list[Scenario], options: argparse.Namespace, first: int) -> Iterator[dict[str, Any]]:
    """Rows of one round after another, without end."""
    number = first
    while True:
        settings = settings_of(options, number)
        for _ in range(SELF_PAIRS):
            for row in grade(replace(settings, self_test=True), scenarios):
                yield {**row, "round": number, "slower": 0.0}
        for slower in SLOWER:
            for row in grade(replace(settings, candidates_dir=root / f"{slower:g}"), scenarios):
                yield {**row, "round": number, "slower": slower}
        number += 1


def run(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Measure what is missing, then grade until --minutes or --repeats are reached; appends to the output."""
    started, scenarios = time.monotonic(), scenarios_of(options.shape or SHAPES[options.device])
    with options.output.open("a") as log, tempfile.TemporaryDirectory() as root:
        def keep(row: dict[str, Any]) -> None:
            rows.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
            ratio = row.get("slowdown", row.get("speedup"))
            print(f"{time.monotonic() - started:5.0f} s {row['kind']} {row['shape']} slower {row['slower']:g}: "
                  f"{row.get('verdict', '')} {ratio if ratio is None else f'{ratio:.4f}'}", file=sys.stderr, flush=True)

        for row in calibrated(Path(root), scenarios, options, rows):
            keep(row)
        first = 1 + max((row["round"] for row in rows if row["kind"] == "graded"), default=-1)
        for row in rounds(Path(root), scenarios, options, first):
            if row["round"] >= first + options.repeats:
                break
            keep(row)
            if time.monotonic() - started > options.minutes * 60:
                break


def share(values: Iterable[bool]) -> str:
    """`3 of 40 (7.5 %)`."""
    found = list(values)
    return f"{sum(found)} of {len(found)} ({sum(found) / len(found):.1%})" if found else "none"


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print Markdown tables: kernels against themselves, slowed copies, verdicts that are not `passed`."""
    graded = [row for row in rows if row["kind"] == "graded"]
    timed = [row for row in graded if "speedup" in row]
    truths = {(row["shape"], row["slower"]): row for row in rows if row["kind"] == "truth"}
    shapes = list(dict.fromkeys(row["shape"] for row in timed))
    print("| against itself | comparisons | interval without 1 | median distance from 1 | median half-width |")
    print("|---|---|---|---|---|")
    for shape in (*shapes, "all"):
        mine = [r for r in timed if not r["slower"] and shape in (r["shape"], "all")]
        off = statistics.median(abs(r["speedup"] - 1) for r in mine) if mine else 0.0
        half = statistics.median((r["speedup_high"] - r["speedup_low"]) / 2 for r in mine) if mine else 0.0
        print(f"| {shape} | {len(mine)} | {share(not r['speedup_low'] <= 1 <= r['speedup_high'] for r in mine)} | "
              f"{off:.2%} | {half:.2%} |")
    print("\n| slowed copy | asked | true slowdown (half-width) | median found | detected |")
    print("|---|---|---|---|---|")
    for slower in SLOWER:
        for shape in (*shapes, "all"):
            mine = [r for r in timed if r["slower"] == slower and shape in (r["shape"], "all")]
            truth = truths.get((shape, slower))
            told = "" if truth is None else f"{truth['slowdown']:.2%} ({truth['half_width']:.2%})"
            found = f"{statistics.median(1 / r['speedup'] - 1 for r in mine):.2%}" if mine else "-"
            print(f"| {shape} | {slower:.0%} | {told} | {found} | {share(r['speedup_high'] < 1 for r in mine)} |")
    wrong = [row for row in graded if row["verdict"] != "passed"]
    print(f"\nverdicts other than passed: {len(wrong)} of {len(graded)}")
    for row in wrong:
        print(f"- {row['shape']}, slower {row['slower']:g}: {row['verdict']}: {row['message']}")
    print(f"environment: {json.dumps(describe_environment(options.device))}")


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier run; ValueError where a line is none."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            row = json.loads(line)
            rows.append({**row, "kind": row["kind"], "slower": row["slower"], "shape": row["shape"]})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no row of this script: {line[:80]!r}; name another --output") from error
    return rows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default %(default)s")
    parser.add_argument("--shape", nargs="*", help=f"addresses of rms_norm, silu_and_mul or linear (default on a CPU: "
                                                   f"{', '.join(SHAPES['cpu'])})")
    parser.add_argument("--minutes", type=float, default=6.0, help="minutes until it stops (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=1000, help="most rounds of this run (default %(default)s)")
    parser.add_argument("--num-runs", type=int, default=GraderSettings.num_runs,
                        help="most timed calls a side (default %(default)s, the grader's)")
    parser.add_argument("--max-time", type=float, default=GraderSettings.max_time_s,
                        help="seconds of timing a comparison (default %(default)s, the grader's)")
    parser.add_argument("--output", type=Path, default=Path("power.jsonl"),
                        help="one JSON line a result; what it holds counts too (default %(default)s)")
    parser.add_argument("--table-only", action="store_true", help="grade nothing, print the tables of --output")
    options = parser.parse_args(arguments)
    if options.minutes <= 0 or options.repeats < 1:
        parser.error("--minutes and --repeats: over 0")
    return options


def main() -> None:
    """Run and print."""
    options = parse()
    try:
        rows = read(options.output)
        if not options.table_only:
            run(options, rows)
        report(rows, options)
    except (ValueError, FastKernelsError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
