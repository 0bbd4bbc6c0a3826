"""Kernels graded per minute and overhead per scenario on warm workers, as a self-test of the baseline.

    python benchmarks/throughput.py --target rms_norm                  # every distinct shape up to 512 tokens on a CPU
    python benchmarks/throughput.py --device cuda --max-time 0.2       # all of level 1 on a GPU

Overhead is a scenario's wall time less the time in which candidate or baseline code ran in its process: inputs,
oracle, comparison, messages, copies. The first scenario, which starts the processes, is listed by itself.
"""

import argparse
import statistics
import time

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import Scenario, Selection, load_manifest
from fastkernels.results import ScenarioResult


def main() -> None:
    """Grade and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--target", nargs="*", default=[], help="operators; all without it")
    parser.add_argument("--limit", type=int, default=0, help="most distinct shapes of each operator; 0: all")
    parser.add_argument("--max-time", type=float, default=1.0, help="seconds of timing per scenario")
    parser.add_argument("--num-runs", type=int, default=100, help="most timed calls of each side")
    parser.add_argument("--no-timing", action="store_true", help="correctness only")
    args = parser.parse_args()
    settings = GraderSettings(device=args.device, self_test=True, max_time_s=args.max_time, num_runs=args.num_runs,
                              timing=not args.no_timing)
    with KernelGrader(settings) as grader:
        scenarios = distinct(grader, load_manifest().scenarios(Selection(targets=tuple(args.target))), args.limit)
        started = time.perf_counter()
        first = grader.grade(scenarios[0])
        start_s = time.perf_counter() - started
        started = time.perf_counter()
        results = [grader.grade(scenario) for scenario in scenarios[1:]]
        total_s = time.perf_counter() - started
        show_machine(grader.environment())
    print(f"first scenario, processes started: {start_s:.2f} s ({first.verdict})")
    print(f"then {len(results)} kernels in {total_s:.1f} s: {60 * len(results) / total_s:.0f} per minute")
    show_operators(results)


def distinct(grader: KernelGrader, scenarios: list[Scenario], limit: int) -> list[Scenario]:
    """One scenario per shape that this machine grades, at most `limit` of each operator."""
    shapes: dict[str, dict[str, Scenario]] = {}
    for scenario in scenarios:
        of_op = shapes.setdefault(scenario.op, {})
        if scenario.shape_key not in of_op and (not limit or len(of_op) < limit) and grader.left_out(scenario) is None:
            of_op[scenario.shape_key] = scenario
    return [scenario for of_op in shapes.values() for scenario in of_op.values()]


def show_machine(environment: dict[str, object]) -> None:
    """Print what the figures were measured on."""
    gpu, machine = environment.get("gpu"), environment["machine"]
    assert isinstance(machine, dict)
    name = gpu["name"] if isinstance(gpu, dict) else f"{machine['cpu']} ({machine['usable_cores']} cores)"
    print(f"{name}; versions {environment['versions']}; commit {environment.get('commit')}")


def show_operators(results: list[ScenarioResult]) -> None:
    """Print one line per operator."""
    print(f"{'operator':22}{'shapes':>7}{'passed':>7}{'wall ms':>9}{'overhead ms: median':>21}{'90 %':>7}{'worst':>7}")
    for op in dict.fromkeys(result.op for result in results):
        of_op = [result for result in results if result.op == op]
        over = sorted(result.overhead_s * 1000 for result in of_op)
        wall = statistics.median(result.wall_s for result in of_op) * 1000
        passed = sum(result.verdict.ok for result in of_op)
        print(f"{op:22}{len(of_op):7}{passed:7}{wall:9.0f}{statistics.median(over):21.0f}"
              f"{over[int(0.9 * (len(over) - 1))]:7.0f}{over[-1]:7.0f}")


if __name__ == "__main__":
    main()
