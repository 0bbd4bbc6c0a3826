"""Until a worker is ready, until the first verdict from a cold shell, and gradings a minute of different candidates.

    PYTHONPATH=. python3 benchmarks/starts.py                                    # CPU
    PYTHONPATH=. python3 benchmarks/starts.py --device cuda --jobs 4
    FASTKERNELS_WORKER_START=exec PYTHONPATH=. python3 benchmarks/starts.py      # as before there were starters

A worker is ready when it has answered `ready` or, the trusted one, `hello`. CPU seconds are those of the worker and all
that it starts; the starters' own import of torch is listed by itself. Gradings are of candidates that differ in a
comment, of one scenario without timing, by one grader or several at once in processes of their own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from fastkernels.bench.isolate import launch
from fastkernels.bench.isolate.files import ARENAS, create_file
from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.isolate.sandbox import find_sandbox
from fastkernels.bench.isolate.starter.shared import KINDS, starters
from fastkernels.bench.kernels import GraderSettings, KernelGrader, resolve_device
from fastkernels.bench.timing import describe_environment
from fastkernels.manifest import Scenario, Selection, load_manifest

ROOT = Path(__file__).resolve().parents[1]
CANDIDATE = ROOT / "examples" / "candidates" / "L1" / "rms_norm.py"
TIMEOUT_S = 180.0
COLD = ("--fk-target=rms_norm", "--fk-model=llama32-1b", "--fk-tp=1", "--fk-seqlen=1", "--fk-no-timing",
        "--fk-candidates=examples/candidates")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--starts", type=int, default=11, help="starts of each kind of worker (default 11)")
    parser.add_argument("--candidates", type=int, default=20, help="candidates to grade (default 20)")
    parser.add_argument("--jobs", type=int, default=2, help="graders at once in the last row (default 2)")
    parser.add_argument("--cold", type=int, default=5, help="cold commands (default 5)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = resolve_device(args.device)
    if args.part:
        first, last = map(int, args.part.split("-"))
        print(grade_all(device, range(first, last)))
        return
    show_machine(device)
    print("| what | median | least to most | CPU s |\n|---|---|---|---|")
    for row in rows(device, args):
        print(row, flush=True)


def rows(device: str, args: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    if launch.forks():
        yield row("a starter, until its first worker is ready", [started_starter()])
    for role in ("baseline", "candidate"):
        yield row(f"{role} worker", [ready_worker(role, device) for _ in range(args.starts)])
    if launch.forks():
        yield row("candidate's worker that was forked ahead", [spare_worker(device) for _ in range(args.starts)])
    yield row("first verdict, whole command", [cold_command(device) for _ in range(args.cold)])
    for jobs in (1, args.jobs):
        seconds = graded_by(jobs, device, args.candidates)
        per_minute = 60 * args.candidates / seconds
        yield f"| {args.candidates} candidates, graders: {jobs} | {per_minute:.0f} a minute | {seconds:.1f} s | |"


def row(what: str, taken: list[tuple[float, float]]) -> str:
    """One line: milliseconds, and CPU seconds (median)."""
    wall = sorted(1000 * seconds for seconds, _ in taken)
    cpu = statistics.median(seconds for _, seconds in taken)
    spread = f"{wall[0]:.0f} to {wall[-1]:.0f} ms, {len(wall)} times"
    return f"| {what} | {statistics.median(wall):.0f} ms | {spread} | {cpu:.2f} |"


def started_starter() -> tuple[float, float]:
    """Seconds, and CPU seconds of both starters, from nothing to the first worker."""
    started = time.perf_counter()
    launch.prepare()
    with worker_of("candidate", "cpu") as worker:
        worker.request({"do": "ready"}, TIMEOUT_S)
        seconds = time.perf_counter() - started
    own = [starters().start(kind, launch.worker_environment()).pid for kind in KINDS]
    return seconds, sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in own)


def ready_worker(role: str, device: str) -> tuple[float, float]:
    """Seconds and CPU seconds until a new worker answers."""
    hello = {"do": "ready"} if role == "candidate" else {"do": "hello", "baseline": "auto"}
    started = time.perf_counter()
    with worker_of(role, device) as worker:
        worker.request(hello, TIMEOUT_S)
        return time.perf_counter() - started, worker.cpu_s()


def spare_worker(device: str) -> tuple[float, float]:
    """The same for one that is there already: until it has taken candidates in."""
    with worker_of("candidate", device) as worker:
        worker.request({"do": "ready"}, TIMEOUT_S)
        before, started = worker.cpu_s(), time.perf_counter()
        worker.request({"do": "hello", "candidates": str(CANDIDATE.parents[1]), "memory_limit_bytes": None}, TIMEOUT_S)
        return time.perf_counter() - started, worker.cpu_s() - before


@contextmanager
def worker_of(role: str, device: str) -> Iterator[WorkerProcess]:
    """A worker with arenas of its own."""
    with ExitStack() as stack:
        arenas = [create_file() for _ in range(ARENAS)]
        for fd in arenas:
            stack.callback(os.close, fd)
        worker = WorkerProcess(role, device, arenas, find_sandbox("auto", device))
        stack.callback(worker.close)
        yield worker


def cold_command(device: str) -> tuple[float, float]:
    """Seconds and CPU seconds (of what it has waited for) of one untracked pytest command on two scenarios."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "pytest", "-p", "pytest_fastkernels.plugin", *COLD, f"--fk-device={device}",
                    "--fk-output-json=" + os.path.join(tempfile.gettempdir(), "starts.json")],
                   cwd=ROOT, env={**os.environ, "FASTKERNELS_TRACKING": "off"}, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, os.times()
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def graded_by(jobs: int, device: str, count: int) -> float:
    """Seconds in which graders, each in a process of its own, grade all candidates; starters are there before."""
    step = -(-count // jobs)
    command = [sys.executable, __file__, "--device", device]
    parts = [f"{first}-{min(count, first + step)}" for first in range(0, count, step)]
    environment = {**os.environ, **launch.share()}
    with worker_of("candidate", "cpu") as worker:
        worker.request({"do": "ready"}, TIMEOUT_S)
    started = time.perf_counter()
    running = [subprocess.Popen([*command, "--part", part], env=environment, stdout=subprocess.PIPE, text=True)
               for part in parts]
    passed = sum(int(process.communicate()[0]) for process in running)
    if passed != count:
        raise SystemExit(f"{passed} of {count} passed")
    return time.perf_counter() - started


def grade_all(device: str, numbers: range) -> int:
    """How many of these candidates passed."""
    (scenario,) = small_scenarios()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "L1", "rms_norm.py")
        target.parent.mkdir()
        settings = GraderSettings(device=device, seed=1, timing=False, candidates_dir=Path(folder))
        target.write_text(CANDIDATE.read_text())
        with KernelGrader(settings) as grader:
            return sum(passes(grader, scenario, target, number) for number in numbers)


def passes(grader: KernelGrader, scenario: Scenario, target: Path, number: int) -> bool:
    """Whether candidate `number` passes."""
    target.write_text(f"{CANDIDATE.read_text()}\n# candidate {number}\n")
    return grader.grade(scenario).verdict.ok


def small_scenarios() -> list[Scenario]:
    """rms_norm of the smallest shape."""
    selection = Selection(targets=("rms_norm",), models=("llama32-1b",), tps=(1,), seqlens=(1,))
    return [scenario for scenario in load_manifest().scenarios(selection) if not scenario.variant]


def show_machine(device: str) -> None:
    """Print what it was measured on."""
    found = describe_environment(device)
    gpu, machine = found["gpu"], found["machine"]
    name = gpu["name"] if gpu else f"{machine['cpu']}, {machine['usable_cores']} cores, load {machine['load']}"
    print(f"{name}; versions {found['versions']}; commit {found.get('commit')}; "
          f"workers: {'fork' if launch.forks() else 'exec'}\n")


if __name__ == "__main__":
    main()
