"""How often `fastkernels compare` calls equal runs different, and what it finds of a kernel that is slower.

    PYTHONPATH=. python3 benchmarks/compare_false_alarms.py docs/results/h200-self-level1.json.gz
    PYTHONPATH=. python3 benchmarks/compare_false_alarms.py docs/results/h200-self-level1.json.gz --slower 5
    PYTHONPATH=. python3 benchmarks/compare_false_alarms.py docs/results/h200-self-level1.json.gz --slower 10 --alone

The results are of a kernel against itself, so the true speedup of every shape is 1. Pairs of runs are made of them: the
new run is the file, and in the base run each shape has the times of another shape of its operator that takes about as
long, chosen at random. Whatever is then called slower or faster is a false alarm, unless --slower made it so.
"""

import argparse
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fastkernels.report import compare, read_run
from fastkernels.report.compare import Status
from fastkernels.results import KernelBenchResult, ScenarioResult, Timing

LIMITS = (0.0, 0.01, 0.03)
BANDS_S = ((0.0, 2e-6), (2e-6, 5e-6), (5e-6, 20e-6), (20e-6, 100e-6), (100e-6, math.inf))
"""Bands of the baseline's time, seconds."""
NEIGHBOURS = 0.1
"""Standard deviation of the random part of the order by time, in the logarithm: which shapes change places."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results file of a self-test with timing")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of runs (default: 100)")
    parser.add_argument("--slower", type=float, metavar="PERCENT", help="slow one operator after the other by as much")
    parser.add_argument("--alone", action="store_true", help="slow one shape in each pair of runs, by bands of times")
    args = parser.parse_args()
    run = read_run(args.results).result
    shapes = [result for result in run.results if result.timing and not result.shared_with]
    print(f"{len(shapes)} shapes, {args.pairs} pairs of runs")
    if args.slower is None:
        false_alarms(run, shapes, args.pairs)
    elif args.alone:
        found_alone(run, shapes, args.pairs, 1 + args.slower / 100)
    else:
        found_slower(run, shapes, args.pairs, 1 + args.slower / 100)


def false_alarms(run: KernelBenchResult, shapes: list[ScenarioResult], pairs: int) -> None:
    """Share of the pairs that fail, at each limit; beside it what a gate would do that takes each shape alone."""
    print("| limit | pairs called slower | pairs called faster | shapes called slower by their own interval, mean |")
    print("|---|---|---|---|")
    for limit in LIMITS:
        slower = faster = alone = 0
        for seed in range(pairs):
            found = compare(base_run(run, shapes, seed), replace(run, results=tuple(shapes)), limit)
            statuses = {pair.status for pair in found.pairs} | {group.status for group in found.groups}
            slower, faster = slower + (Status.SLOWER in statuses), faster + (Status.FASTER in statuses)
            alone += sum(pair.change is not None and pair.change.low > limit for pair in found.pairs)
        print(f"| {limit:.0%} | {slower} of {pairs} | {faster} of {pairs} | {alone / pairs:.1f} |")


def found_slower(run: KernelBenchResult, shapes: list[ScenarioResult], pairs: int, factor: float) -> None:
    """How often a slower operator is found at the default limit, and by what."""
    print(f"| slower by {factor - 1:.0%} | shapes | pairs that fail | by the mean | shapes called slower, mean | "
          "other shapes, mean |")
    print("|---|---|---|---|---|---|")
    cases: list[tuple[str, Callable[[ScenarioResult], bool]]] = [
        (op, lambda result, op=op: result.op == op) for op in dict.fromkeys(result.op for result in shapes)]
    cases += [("linear at 8 tokens", lambda result: (result.op, result.tokens) == ("linear", 8)),
              ("rms_norm at 8192 tokens", lambda result: (result.op, result.tokens) == ("rms_norm", 8192))]
    for name, is_slow in cases:
        count = sum(map(is_slow, shapes))
        new = replace(run, results=tuple(slowed(result, factor) if is_slow(result) else result for result in shapes))
        fails = mean = hits = others = 0
        for seed in range(pairs):
            found = compare(base_run(run, shapes, seed), new)
            fails += bool(found.failures)
            mean += any(group.status is Status.SLOWER for group in found.groups)
            called = [is_slow(pair.known) for pair in found.pairs if pair.status is Status.SLOWER]
            hits, others = hits + sum(called), others + called.count(False)
        print(f"| {name} | {count} | {fails} of {pairs} | {mean} of {pairs} | {hits / pairs:.1f} | "
              f"{others / pairs:.2f} |")


def found_alone(run: KernelBenchResult, shapes: list[ScenarioResult], pairs: int, factor: float) -> None:
    """How often one shape is found that alone is slower, at the default limit."""
    print(f"| one shape slower by {factor - 1:.0%}, of | shapes | found |")
    print("|---|---|---|")
    for low, high in BANDS_S:
        band = [i for i, result in enumerate(shapes) if result.timing and low <= result.timing.baseline_s < high]
        hits = 0
        for seed in range(pairs):
            slow = random.Random(seed).choice(band)
            results = [slowed(result, factor) if i == slow else result for i, result in enumerate(shapes)]
            found = compare(base_run(run, shapes, seed), replace(run, results=tuple(results)))
            hits += any(pair.known.id == shapes[slow].id for pair in found.having(Status.SLOWER))
        print(f"| {low * 1e6:g} to {high * 1e6:g} us | {len(band)} | {hits} of {pairs} |")


def base_run(run: KernelBenchResult, shapes: list[ScenarioResult], seed: int) -> KernelBenchResult:
    """The shapes with the times of others of their operator that take about as long."""
    rng = random.Random(seed)
    results = []
    for op in dict.fromkeys(result.op for result in shapes):
        group = [(result, timing) for result in shapes if result.op == op and (timing := result.timing)]
        group.sort(key=lambda pair: math.log(pair[1].baseline_s) + rng.gauss(0, NEIGHBOURS))
        results += [replace(result, timing=_as_long(group[i - 1][1], own.baseline_s)) for i, (result, own)
                    in enumerate(group)]
    return replace(run, results=tuple(results))


def _as_long(timing: Timing, baseline_s: float) -> Timing:
    """The same speedup, with a baseline that takes so long: another shape's baseline would be one that has moved."""
    return replace(timing, baseline_s=baseline_s, candidate_s=timing.candidate_s * baseline_s / timing.baseline_s)


def slowed(result: ScenarioResult, factor: float) -> ScenarioResult:
    """The same scenario with a candidate that takes `factor` times as long."""
    t = result.timing
    if t is None:
        return result
    slow: Timing = replace(t, candidate_s=t.candidate_s * factor, speedup=t.speedup / factor,
                           speedup_low=t.speedup_low / factor, speedup_high=t.speedup_high / factor)
    return replace(result, timing=slow)


if __name__ == "__main__":
    main()
