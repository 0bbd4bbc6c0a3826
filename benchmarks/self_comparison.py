"""What a self-test with timing shows: every kernel against itself, through the whole grader.

    pytest -n 2 --fk-level=1 --fk-self-test --fk-output-json=self.json
    PYTHONPATH=. python3 benchmarks/self_comparison.py self.json [--slim docs/results/h200-self-level1.json]
"""

import argparse
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fastkernels.results import KernelBenchResult, Timing, read_result, write_result

BANDS_S = ((0.0, 2e-6), (2e-6, 5e-6), (5e-6, 20e-6), (20e-6, 100e-6), (100e-6, float("inf")))
"""Bands of the baseline's time, seconds."""


def main() -> None:
    """Print one row per operator and one per band of times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results file of a self-test with timing")
    parser.add_argument("--slim", type=Path, help="write the results there without their samples")
    args = parser.parse_args()
    found = read_result(args.results)
    timed = [(r.op, r.timing) for r in found.results if r.self_test and r.timing and not r.shared_with]
    if not timed:
        raise SystemExit(f"{args.results}: no timed self-test")
    print(f"{len(timed)} comparisons of a kernel with itself, {len(found.results)} scenarios in {found.wall_s:.0f} s")
    print("| | comparisons | interval holds 1 | within 1 % | median distance | 90 % | "
          "median half-width | median runs |")
    print("|---|---|---|---|---|---|---|---|")
    for op in dict.fromkeys(op for op, _ in timed):
        print(row(op, [timing for name, timing in timed if name == op]))
    for low, high in BANDS_S:
        band = [timing for _, timing in timed if low <= timing.baseline_s < high]
        name = f"{low * 1e6:g} to {high * 1e6:g} us"
        print(row(name, band) if band else f"| {name} | 0 |")
    print(row("all", [timing for _, timing in timed]))
    if args.slim:
        write_result(args.slim, without_samples(found))


def row(name: str, timings: list[Timing]) -> str:
    """One line of the table."""
    distances = sorted(abs(t.speedup - 1) for t in timings)
    half_widths = [(t.speedup_high - t.speedup_low) / 2 for t in timings]
    ninth = distances[min(len(distances) - 1, round(0.9 * len(distances)))]
    return (f"| {name} | {len(timings)} | {share(t.speedup_low <= 1 <= t.speedup_high for t in timings)} | "
            f"{share(distance <= 0.01 for distance in distances)} | {statistics.median(distances):.2%} | {ninth:.2%} | "
            f"{statistics.median(half_widths):.2%} | {statistics.median(t.runs for t in timings):g} |")


def share(hits: Iterable[bool]) -> str:
    """`97.3 %`."""
    listed = list(hits)
    return f"{sum(listed) / len(listed):.1%}"


def without_samples(found: KernelBenchResult) -> KernelBenchResult:
    """The same results with the times but not every call's."""
    return replace(found, results=tuple(
        replace(r, timing=replace(r.timing, baseline_samples_s=(), candidate_samples_s=())) if r.timing else r
        for r in found.results))


if __name__ == "__main__":
    main()
