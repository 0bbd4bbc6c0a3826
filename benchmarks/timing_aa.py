"""A/A test of timing on a CPU: the same kernel against itself in fresh pairs of processes, and against slowed copies.

    PYTHONPATH=. python3 benchmarks/timing_aa.py --pairs 8 --output aa.json

CPU only. On CUDA no process is asked for the times of its calls any more, so that this script has nothing to compare
there; a self-test of the whole grader and benchmarks/self_comparison.py show the same of CUDA. Its results on an H200
in docs/results were made up to commit 05426b3, with the options --device cuda, --method and --own-memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

from fastkernels.bench.timing import Comparison, TimingPlan, check_times, compare, describe_environment
from fastkernels.bench.timing.load import Threads, read_threads
from fastkernels.bench.timing.timer import Call
from fastkernels.bench.timing.wall import WallTimer

SLOWED = ("rms_norm", 512, 4096), ("silu_mul", 32, 14336)
"""Cases with copies slowed by more tokens."""
SLOWER = (0.02, 0.05, 0.10)
SMALL_S = 5e-6
"""Two fresh runs shall agree within 1 % for kernels over this."""


class Worker:
    """A process that times; a `Lane` of `compare`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, "--worker"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for its answer."""
        self.send(**request)
        return self.receive()

    def send(self, **request: Any) -> None:
        """Send a request."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """Wait for the answer."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("@"):
                answer = json.loads(line[1:])
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["ok"]
        raise RuntimeError("the worker ended")

    def measure(self, calls: int) -> list[float]:
        """As `Lane.measure`."""
        return list(self.ask(do="measure", calls=calls))

    def eager(self, calls: int) -> list[float]:
        """As `Lane.eager`."""
        return list(self.ask(do="eager", calls=calls))

    def replay(self, calls: int) -> None:
        """As `Lane.replay`."""
        self.ask(do="replay", calls=calls)

    def threads(self) -> Threads:
        """As `Lane.threads`."""
        return read_threads([self._process.pid])

    def slowdown(self) -> float:
        """As `Lane.slowdown`: no known work is done here."""
        return 1.0

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """The worker's side: answer requests from stdin until it closes."""
    from benchmarks.timing_cases import make_call

    timer = WallTimer()
    call: Call | None = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        answer: Any = None
        if do == "make":
            call = None  # frees the last case's memory first
            call = make_call(request["case"])
        else:
            answer = getattr(timer, do)(call, request["calls"])
        print("@" + json.dumps({"ok": answer}), flush=True)


def one_pair(cases: Any, slowed: Any, plan: TimingPlan) -> list[Any]:
    """Time every case in one fresh pair of processes."""
    first, second = workers = Worker(), Worker()
    rows = []
    jobs = [(case, 0.0) for case in cases] + [(case, slower) for case in slowed for slower in SLOWER]
    for case, slower in jobs:
        other = (case[0], round(case[1] * (1 + slower)), case[2])
        start = time.perf_counter()
        second.ask(do="make", case=other)
        first.ask(do="make", case=case)
        made = time.perf_counter()
        found = compare(first, second, plan)
        rows.append(row(case, slower, found, made - start))
    for worker in workers:
        worker.close()
    return rows


def row(case: Any, slower: float, found: Comparison, made_s: float) -> dict[str, Any]:
    """One line of the results file."""
    finding = check_times(found, 0.0)
    times = {key: value for key, value in vars(found).items() if not key.endswith(("samples_s", "seen"))}
    times |= {key: getattr(found, key) for key in ("baseline_witness_s", "candidate_witness_s")}
    kept = {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in times.items()}
    return {"case": f"{case[0]}[{case[1]}x{case[2]}]", "slower": slower, "made_s": round(made_s, 4), **kept,
            "finding": None if finding is None else list(finding)}


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Print the table and return the figures."""
    print(f"{'case':28s} {'us':>9s} {'spread':>7s} {'|A/A-1| median':>15s} {'max':>7s} {'holds 1':>8s} "
          f"{'half-width':>11s} {'runs':>5s} {'ms':>5s} {'witness':>8s} {'eager us':>9s}")
    equal = [r for r in rows if not r["slower"]]
    figures: dict[str, Any] = {"cases": {}}
    for case in dict.fromkeys(r["case"] for r in equal):
        figures["cases"][case] = per_case(case, [r for r in equal if r["case"] == case])
    off = [abs(r["speedup"] - 1) for r in equal]
    fresh = [d for r in figures["cases"].values() if r["us"] * 1e-6 > SMALL_S for d in r["fresh_runs_differ"]]
    figures |= {
        "comparisons": len(equal),
        "share_holding_1": share(r["speedup_low"] <= 1 <= r["speedup_high"] for r in equal),
        "share_within_1_percent": share(x <= 0.01 for x in off),
        "median_off": statistics.median(off),
        "fresh_runs_over_5us_median_difference": statistics.median(fresh) if fresh else None,
        "fresh_runs_over_5us_within_1_percent": share(x <= 0.01 for x in fresh) if fresh else None,
        "false_findings": sum(r["finding"] is not None for r in equal),
        "median_wall_ms": 1e3 * statistics.median(r["wall_s"] for r in equal),
        "slowed": {f"{s:.0%}": slowed_figures([r for r in rows if r["slower"] == s]) for s in SLOWER},
    }
    print(json.dumps({key: value for key, value in figures.items() if key != "cases"}, indent=1))
    return figures


def per_case(case: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Print and return the figures of one case over all pairs."""
    times = [r["baseline_s"] for r in rows]
    pairs = [abs(a / b - 1) for a, b in combinations(times, 2)]
    off = [abs(r["speedup"] - 1) for r in rows]
    figures = {
        "us": statistics.median(times) * 1e6, "spread": statistics.stdev(times) / statistics.fmean(times)
        if len(times) > 1 else 0.0, "median_off": statistics.median(off), "max_off": max(off),
        "holds_1": share(r["speedup_low"] <= 1 <= r["speedup_high"] for r in rows),
        "half_width": statistics.median((r["speedup_high"] - r["speedup_low"]) / 2 for r in rows),
        "runs": statistics.median(r["runs"] for r in rows), "fresh_runs_differ": pairs,
        "wall_ms": statistics.median(r["wall_s"] for r in rows) * 1e3,
        "witness_share": statistics.median(r["candidate_witness_s"] / r["candidate_s"] for r in rows),
        "eager_us": statistics.median(r["candidate_eager_s"] for r in rows) * 1e6,
    }
    print(f"{case:28s} {figures['us']:9.2f} {figures['spread']:7.2%} {figures['median_off']:15.2%} "
          f"{figures['max_off']:7.2%} {figures['holds_1']:8.0%} {figures['half_width']:11.2%} {figures['runs']:5.0f} "
          f"{figures['wall_ms']:5.0f} {figures['witness_share']:8.2f} {figures['eager_us']:9.1f}")
    return figures


def share(found: Any) -> float:
    """Share of true ones; 1 where there are none."""
    values = list(found)
    return sum(values) / len(values) if values else 1.0


def slowed_figures(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Share of slowed copies whose interval lies below 1, and their median speedup."""
    if not rows:
        return None
    return {"detected": share(r["speedup_high"] < 1 for r in rows),
            "median_speedup": statistics.median(r["speedup"] for r in rows)}


def main() -> None:
    """Run the pairs, print the table, write the results file."""
    if sys.argv[1:2] == ["--worker"]:
        serve()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu",), help="a CPU alone, see above")
    parser.add_argument("--pairs", type=int, default=4, help="fresh pairs of processes (default %(default)s)")
    parser.add_argument("--num-runs", type=int, default=100, help="most timed calls a side (default %(default)s)")
    parser.add_argument("--max-time", type=float, default=1.0, help="seconds a comparison (default %(default)s)")
    parser.add_argument("--no-slowed", action="store_true", help="leave the slowed copies out")
    parser.add_argument("--output", type=Path, help="JSON results file")
    options = parser.parse_args()
    from benchmarks.timing_cases import CASES

    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    plan = TimingPlan(num_runs=options.num_runs, max_time_s=options.max_time)
    slowed = () if options.no_slowed else SLOWED
    rows: list[dict[str, Any]] = []
    for _ in range(options.pairs):
        rows += one_pair(CASES, slowed, plan)
    figures = report(rows)
    if options.output:
        command = " ".join(["PYTHONPATH=. python3", *sys.argv])
        result = {"command": command, "environment": describe_environment(options.device), **figures, "rows": rows}
        head, _, last = json.dumps({**result, "rows": []}, indent=1).rpartition("[]")
        lines = ",\n  ".join(json.dumps(one) for one in rows)
        options.output.write_text(f"{head}[\n  {lines}\n ]{last}\n")


if __name__ == "__main__":
    main()
