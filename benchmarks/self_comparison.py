"""What a self-test with timing shows: every kernel against itself, through the whole grader.

    pytest -n 2 --fk-level=1 --fk-self-test --fk-output-json=self.json
    PYTHONPATH=. python3 benchmarks/self_comparison.py self.json [--slim docs/results/h200-self-level1.json]

Spreads between processes (docs/timing.md) are fitted and tested on such a run: --spreads 12 0.15 25 0.2 shows the
intervals as they would be with 25 ns and 0.2 % in place of the 12 ns and 0.15 % that were in force, and the coverage on
each half of the comparisons. That is for times that the processes have read themselves, on a CPU or on CUDA until
2026-11-30: how far sections spread depends on the calls in one as well. --again compares a second such run with the
same seed or another.
"""

import argparse
import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fastkernels.bench.timing.instruments import Instrument
from fastkernels.bench.timing.statistics import Interval, speedup_interval
from fastkernels.results import KernelBenchResult, Timing, read_result, write_result

BANDS_S = ((0.0, 2e-6), (2e-6, 5e-6), (5e-6, 20e-6), (20e-6, 100e-6), (100e-6, float("inf")))
"""Bands of the baseline's time, seconds."""

RESOLUTION_S = {"cupti": 32e-9, "cuda_graph": 32e-9, "wall": 100e-9}
"""Smallest step of the clocks that processes read, by the method that results name."""


def main() -> None:
    """Print one row per operator and one per band of times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results file of a self-test with timing")
    parser.add_argument("--slim", type=Path, help="write the results there without their samples")
    parser.add_argument("--again", type=Path, help="results file of a second run: how far the two runs' times differ")
    parser.add_argument("--spreads", type=float, nargs=4, metavar=("NS", "PERCENT", "NEW_NS", "NEW_PERCENT"),
                        help="spreads that were in force, and others to show the intervals for")
    args = parser.parse_args()
    found = read_result(args.results)
    timed = [(r.op, r.timing) for r in found.results if r.self_test and r.timing and not r.shared_with]
    if not timed:
        raise SystemExit(f"{args.results}: no timed self-test")
    if args.spreads:
        timed = [(op, respread(timing, *args.spreads)) for op, timing in timed]
        for number in (0, 1):
            print(f"half {number}: interval holds 1 in {share(holds_one(t) for _, t in timed[number::2])}")
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
    if args.again:
        print_difference(found, read_result(args.again))
    if args.slim:
        write_result(args.slim, without_samples(found))


def print_difference(first: KernelBenchResult, second: KernelBenchResult) -> None:
    """Print how far two runs' times of the same scenarios differ; ragged batches differ with the seed."""
    again = {r.id: r.timing for r in second.results if r.timing and not r.shared_with}
    pairs = [(r.timing, again[r.id]) for r in first.results if r.timing and not r.shared_with and r.id in again]
    for low, high in ((0.0, 5e-6), (5e-6, float("inf"))):
        differences = [abs(a.baseline_s / b.baseline_s - 1) for a, b in pairs if low <= a.baseline_s < high]
        print(f"two runs, {low * 1e6:g} to {high * 1e6:g} us: {len(differences)} baselines, median difference "
              f"{statistics.median(differences):.2%}, {share(d <= 0.01 for d in differences)} within 1 %")


def row(name: str, timings: list[Timing]) -> str:
    """One line of the table."""
    distances = sorted(abs(t.speedup - 1) for t in timings)
    half_widths = [(t.speedup_high - t.speedup_low) / 2 for t in timings]
    ninth = distances[min(len(distances) - 1, round(0.9 * len(distances)))]
    return (f"| {name} | {len(timings)} | {share(map(holds_one, timings))} | "
            f"{share(distance <= 0.01 for distance in distances)} | {statistics.median(distances):.2%} | {ninth:.2%} | "
            f"{statistics.median(half_widths):.2%} | {statistics.median(t.runs for t in timings):g} |")


def holds_one(timing: Timing) -> bool:
    """Whether the interval tells the truth about a kernel compared with itself."""
    return timing.speedup_low <= 1 <= timing.speedup_high


def respread(timing: Timing, ns: float, percent: float, new_ns: float, new_percent: float) -> Timing:
    """The same comparison with another spread between processes in its interval."""
    old, new = (_unseen(timing, *pair) for pair in ((ns, percent), (new_ns, new_percent)))
    centre = math.log(timing.speedup)
    ends = [math.log(end) - centre for end in (timing.speedup_low, timing.speedup_high)]
    low, high = (math.copysign(math.sqrt(max(0.0, end**2 - old**2) + new**2), end) for end in ends)
    return replace(timing, speedup_low=math.exp(centre + low), speedup_high=math.exp(centre + high))


def _unseen(timing: Timing, ns: float, percent: float) -> float:
    if timing.method not in RESOLUTION_S:
        raise SystemExit(f"--spreads: {timing.method!r} is not one of {', '.join(RESOLUTION_S)}")
    resolution = RESOLUTION_S[timing.method]
    sides = [Instrument("", resolution, ns * 1e-9, percent / 100).relative_spread(seconds)
             for seconds in (timing.baseline_s, timing.candidate_s)]
    return math.log(speedup_interval(Interval(0.0, 0.0, 0.0), *sides).high)


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
