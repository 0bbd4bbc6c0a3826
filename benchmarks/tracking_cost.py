"""Seconds to track a kernel run of made-up results.

    python benchmarks/tracking_cost.py [--scenarios 2000] [--repeats 5]

Each case runs in fresh interpreters, so that the import of mlflow counts: the local store in an empty directory (its
tables are made), in one that has runs already, and a real `mlflow server` on loopback, which is started here and ended
at the end. A share is of the wall time that this many scenarios take at --scenario-s seconds each. CPU seconds are
those of the tracking process, which tell more than wall time on a machine that does other work.
"""

import argparse
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastkernels.bench.timing.environment import describe_environment
from fastkernels.bench.tracking import Tracker
from fastkernels.bench.tracking.kernel_files import made
from fastkernels.results import Correctness, KernelBenchResult, ScenarioResult, Timing, Verdict, WorstElement

OPERATORS, TOKENS, SAMPLES = 10, (1, 64, 512, 2048), 100


def scenario(number: int) -> ScenarioResult:
    """One result with as many samples as a run takes by default; every hundredth failed."""
    op, tokens = f"operator_{number % OPERATORS}", TOKENS[number // OPERATORS % len(TOKENS)]
    model = f"model-{number // (OPERATORS * len(TOKENS))}"
    ok = number % 100 != 99
    base, fast = 1e-5, 1e-5 * random.uniform(0.5, 1.1)
    samples = [tuple(s * random.gauss(1, 0.02) for _ in range(SAMPLES)) for s in (base, fast)]
    timing = Timing("cupti", base, fast, base / fast, 0.98 * base / fast, 1.02 * base / fast, SAMPLES, "num_runs", base,
                    fast, base, fast, 1 << 22, 1 << 20, 5e-6, 0.5, 5e-6 / fast, *samples)
    return ScenarioResult(
        id=f"{op}[{model}-tp1-s{tokens}]", op=op, level=1, model=model, model_id=f"made/{model}", tp=1, tokens=tokens,
        phase="prefill", variant="", category="llm", shape_key=str(number), device="cuda", baseline_provider="triton",
        verdict=Verdict.PASSED if ok else Verdict.WRONG_VALUES, message="" if ok else "3 of 4096 elements are wrong",
        correctness=Correctness(0.004, 0.4 if ok else 9.0, 1e-3, 1e-3, 0.01, 0.016, 9,
                                WorstElement("output", (3, 17), 1.0, 1.004), "normal@t512#1"),
        timing=timing if ok else None, evidence="" if ok else "a line of evidence\n" * 20, wall_s=0.2, seed=7)


def made_up(scenarios: int, scenario_s: float) -> KernelBenchResult:
    """A whole run."""
    random.seed(1)
    source = "x = 1  # a kernel has about two hundred lines\n" * 200
    return KernelBenchResult(
        results=tuple(scenario(number) for number in range(scenarios)),
        kernels=tuple(made(f"operator_{number}", 1, f"# {number}\n{source}") for number in range(OPERATORS)),
        environment=describe_environment("cpu"), settings={"seed": 7}, wall_s=scenarios * scenario_s,
        started=datetime.now(UTC).isoformat(timespec="seconds"))


def track(scenarios: int, scenario_s: float) -> None:
    """The measured process: prints the seconds of one tracked run."""
    result = made_up(scenarios, scenario_s)
    lost: list[str] = []
    started, cpu = time.perf_counter(), time.process_time()
    tracker = Tracker(notify=lost.append)
    with tracker.start_run("made up", tags={"tier": "kernel"}, started=result.started, wall_s=result.wall_s):
        opened = time.perf_counter()
        tracker.log_kernel_bench(result)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    if lost:
        sys.exit(lost[0])
    print(json.dumps({"open": opened - started, "log": ended - opened, "total": ended - started, "cpu": cpu}))


def measure(folder: Path, uri: str, options: argparse.Namespace) -> dict[str, float]:
    """Run `track` in a fresh interpreter."""
    dropped = ("MLFLOW_TRACKING_URI", "FASTKERNELS_TRACKING")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment |= {"MLFLOW_TRACKING_URI": uri} if uri else {}
    done = subprocess.run([sys.executable, __file__, "--track", "--scenarios", str(options.scenarios)], cwd=folder,
                          env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def start_server(folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """A server with one worker, ready to answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            break
        except urllib.error.URLError:
            time.sleep(0.2)
    return f"http://127.0.0.1:{port}", process


def rows(options: argparse.Namespace) -> list[tuple[str, list[dict[str, float]]]]:
    """Every case with its repeats."""
    repeats = range(options.repeats)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folders = [root / str(number) for number in repeats]
        for folder in [*folders, root / "server", root / "client"]:
            folder.mkdir()
        found = [("local, empty directory", [measure(folder, "", options) for folder in folders])]
        found.append(("local, later runs", [measure(folders[0], "", options) for _ in repeats]))
        uri, process = start_server(root / "server")
        try:
            found.append(("server on loopback", [measure(root / "client", uri, options) for _ in repeats]))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=2000, help="scenarios of the run (default: 2000)")
    parser.add_argument("--scenario-s", type=float, default=0.2, help="seconds to grade one (default: 0.2, on a GPU)")
    parser.add_argument("--repeats", type=int, default=5, help="fresh interpreters for each case (default: 5)")
    parser.add_argument("--track", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.track:
        return track(options.scenarios, options.scenario_s)
    machine: dict[str, Any] = describe_environment("cpu")["machine"]
    print(f"machine: {machine['cpu']}, {machine['cores']} cores, load {machine['load']} at the start; "
          f"{datetime.now(UTC):%Y-%m-%d}")
    print(f"versions: Python {platform.python_version()}, "
          + ", ".join(f"{name} {version(name)}" for name in ("mlflow", "SQLAlchemy", "matplotlib")))
    print(f"{options.scenarios} scenarios, {3 * options.scenarios} metrics of theirs; seconds, median of "
          f"{options.repeats} (slowest)\n")
    print(f"{'store':<24}{'open':>14}{'log':>14}{'in all':>14}{'of its CPU':>14}{'of wall time':>14}")
    for name, runs in rows(options):
        cells = []
        for part in ("open", "log", "total", "cpu"):
            values = [run[part] for run in runs]
            cells.append(f"{statistics.median(values):.1f} ({max(values):.1f})")
        share = statistics.median(run["total"] for run in runs) / (options.scenarios * options.scenario_s)
        print(f"{name:<24}" + "".join(f"{cell:>14}" for cell in cells) + f"{share:>14.1%}")
    return None


if __name__ == "__main__":
    main()
