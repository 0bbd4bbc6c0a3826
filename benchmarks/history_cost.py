"""Seconds and memory that `fastkernels history` takes on a large local store of made-up runs.

    python benchmarks/history_cost.py [--runs 1000] [--scenarios 100] [--repeats 3]

Each command runs in fresh interpreters, so that the imports count. Filling the store takes about 0.15 s a run; --store
DIRECTORY keeps it, and uses one that is there already.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fastkernels.bench.timing.environment import describe_environment
from fastkernels.bench.tracking import Tracker, local_store

OPERATORS = 10
COMMANDS = ([], ["--op", "operator_3"], ["--best"], ["--best", "--json"])
CODE = """\
import resource, sys
from fastkernels.cli.main import main
status = main(["history", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


def metrics_of(run: int, scenarios: int) -> dict[str, float]:
    """What a run of the kernel tier logs: four numbers an operator, three a scenario, four in all."""
    found: dict[str, float] = {"avg_speedup": 1.5, "passed": scenarios, "failed": 0, "wall_s": 60.0}
    for number in range(OPERATORS):
        op = f"operator_{number}"
        found |= {f"{op}_avg_speedup": 1 + run % 97 / 100, f"{op}_passed": scenarios // OPERATORS,
                  f"{op}_failed": 0, f"{op}_max_error_ratio": 0.3}
    for number in range(scenarios):
        where = f"operator_{number % OPERATORS}/model-tp1-s{number}"
        found |= {f"{where}/speedup": 1.5, f"{where}/correct": 1, f"{where}/error_ratio": 0.3}
    return found


def fill(directory: Path, runs: int, scenarios: int) -> float:
    """Track runs in the local store of `directory`; seconds that it took."""
    os.chdir(directory)
    tracker, start = Tracker(), time.perf_counter()
    for number in range(runs):
        hashes = {f"kernel_sha256.operator_{i}": f"{number:064x}" for i in range(OPERATORS)}
        tags = {"tier": "kernel", "self_test": "false", **hashes}
        with tracker.start_run(f"run {number}", params={"device": "cuda", "gpu": "NVIDIA H200"}, tags=tags):
            tracker.log_metrics(metrics_of(number, scenarios))
    return time.perf_counter() - start


def measure(words: list[str], directory: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one command in an interpreter of its own."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=directory, capture_output=True, text=True,
                          check=False)
    wall_s = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"history {' '.join(words)}: {done.stderr}")
    return wall_s, int(done.stderr.split()[-1]) / 1024


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--scenarios", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--store", type=Path)
    args = parser.parse_args()
    os.environ.pop("FASTKERNELS_TRACKING", None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as temporary:
        directory = (args.store or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        if local_store(directory).exists():
            print(f"store of {directory} as it is")
        else:
            took_s = fill(directory, args.runs, args.scenarios)
            print(f"{args.runs} runs of {len(metrics_of(0, args.scenarios))} metrics, filled in {took_s:.0f} s")
        machine = describe_environment("cpu")["machine"]
        print(f"{machine['cpu']}, {machine['usable_cores']} cores, load {machine['load']}, Python "
              f"{platform.python_version()}, mlflow {version('mlflow')}, {datetime.now(UTC):%Y-%m-%d}")
        for words in COMMANDS:
            taken = [measure(words, directory) for _ in range(args.repeats)]
            walls_s = sorted(wall_s for wall_s, _ in taken)
            print(f"history {' '.join(words):24} {statistics.median(walls_s):6.2f} s "
                  f"({walls_s[0]:.2f} to {walls_s[-1]:.2f}), peak {max(mib for _, mib in taken):.0f} MiB")


if __name__ == "__main__":
    main()
