#!/usr/bin/env python3
"""How a candidate's process ends: verdict, seconds to it, and whether the next scenarios are unharmed; Markdown.

Usage: PYTHONPATH=. python3 benchmarks/process_ends.py [NAME OF AN END ...]      (CPU; some minutes)

Every candidate is bounded: the fork bomb stops at 400 processes of 20 s, the memory bomb at 3 GiB under a limit of
1 GiB, the disk bomb at 512 MiB under a limit of 128 MiB, the hog after 60 s. Afterwards the start of a candidate's
worker and the time of rms_norm against itself are measured with and without the sandbox.
"""

import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from fastkernels.bench.isolate.files import create_file
from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.isolate.sandbox import find_sandbox
from fastkernels.bench.isolate.starter.shared import starters
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import Scenario, Selection, load_manifest

SETTINGS = GraderSettings(device="cpu", seed=1, timing=False, timeout_s=60.0, memory_limit_bytes=2**30,
                          disk_limit_bytes=2**27)
STARTS = 5
ENDS = {
    "crash": "ctypes.string_at(0)",
    "hang": "while True: pass",
    "exit 0": "os._exit(0)",
    "memory bomb": "kept = [bytearray(os.urandom(1024) * 2**10 * 64) for _ in range(48)]; time.sleep(30)",
    "memory bomb in 6 children": "[os.fork() or (bytearray(os.urandom(1024) * 2**19), time.sleep(20), os._exit(0)) "
                                 "for _ in range(6)]; time.sleep(20)",
    "fork bomb": "[os.fork() or (time.sleep(20), os._exit(0)) for _ in range(400)]; time.sleep(20)",
    "disk bomb": "[open(f'{os.environ[\"TMPDIR\"]}/{i}', 'wb').write(bytes(2**26)) for i in range(8)]; time.sleep(20)",
    "left-over hog": "os.fork() or hog()",
}
"""What `forward` does from 64 tokens on, where it is wrong."""

MODULE = '''import ctypes, os, time
import torch
from torch import nn

def hog():
    os.setsid()
    if os.fork() == 0:
        end = time.monotonic() + 60
        while time.monotonic() < end: pass
    os._exit(0)

class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype), requires_grad=False)
        self.eps = eps
    def forward(self, x, residual=None):
        if x.shape[0] >= 64:
            {code}
            os._exit(9)
        x = x if residual is None else x + residual
        y = x.float()
        y = (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight
        return y if residual is None else (y, x)
'''


@dataclass(frozen=True)
class Scenarios:
    """One that goes wrong, one of the same operator and one of another."""

    wrong: Scenario
    same: Scenario
    other: Scenario


def pick() -> Scenarios:
    """Small scenarios of the manifest; the wrong one has 64 tokens."""
    def first(op: str) -> Scenario:
        found = load_manifest(None).scenarios(Selection(targets=(op,)))
        return min((s for s in found if not s.variant), key=lambda s: (s.tokens, s.tp))

    norm = first("rms_norm")
    return Scenarios(replace(norm, tokens=64), norm, first("silu_and_mul"))


def seconds_and(grader: KernelGrader, scenario: Scenario) -> tuple[float, str]:
    """Seconds that grading took and its verdict."""
    started = time.monotonic()
    result = grader.grade(scenario)
    return time.monotonic() - started, str(result.verdict)


def end_rows(scenarios: Scenarios, names: list[str]) -> None:
    """Print the table of ends, or of those named."""
    print("| the candidate's | verdict | seconds to it | same operator next | other operator next | left over |")
    print("|---|---|---|---|---|---|")
    for name, code in ENDS.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "L1" / "rms_norm.py"
            path.parent.mkdir()
            path.write_text(MODULE.format(code=code))
            timeout_s = 5.0 if name == "hang" else SETTINGS.timeout_s
            with KernelGrader(replace(SETTINGS, candidates_dir=Path(folder), timeout_s=timeout_s)) as grader:
                grader.grade(scenarios.same)  # workers are up
                before = {process.pid for process in psutil.Process().children(recursive=True)}
                took, verdict = seconds_and(grader, scenarios.wrong)
                left = [pid for pid in before - _own(grader) if psutil.pid_exists(pid)]
                again = seconds_and(grader, replace(scenarios.same, tokens=scenarios.same.tokens + 4))
                other = seconds_and(grader, scenarios.other)
        print(f"| {name} | `{verdict}` | {took:.1f} | {again[1]}, {again[0]:.1f} s | {other[1]}, {other[0]:.1f} s | "
              f"{len(left)} processes |", flush=True)


def _own(grader: KernelGrader) -> set[int]:
    """The workers that run now, with what is below them, and the starters."""
    below = {p.pid for pid in grader.worker_pids() for p in psutil.Process(pid).children(recursive=True)}
    return grader.worker_pids() | below | {starter.pid for starter in starters().own.values()}


def start_rows() -> None:
    """Print the median seconds until a candidate's worker answers."""
    for mode in ("auto", "off"):
        times = []
        for _ in range(STARTS):
            arenas = [create_file() for _ in range(4)]
            started = time.monotonic()
            worker = WorkerProcess("candidate", "cpu", arenas, find_sandbox(mode, "cpu"))
            worker.request({"do": "hello", "candidates": None, "memory_limit_bytes": 2**30}, 120)
            times.append(time.monotonic() - started)
            worker.close()
        print(f"start of a candidate's worker, sandbox {mode}: {sorted(times)[STARTS // 2]:.2f} s "
              f"({min(times):.2f} to {max(times):.2f}, {STARTS} starts)", flush=True)


def timing_rows(scenarios: Scenarios) -> None:
    """Print the time of the baseline and its speedup over itself under each mode."""
    for tokens in (32, 128):
        for mode in ("off", "auto", "off", "auto"):
            settings = replace(SETTINGS, timing=True, self_test=True, sandbox=mode, timeout_s=60.0, seqlens=(tokens,))
            with KernelGrader(settings) as grader:
                timing = grader.grade(replace(scenarios.same, tokens=tokens)).timing
            shown = f"{timing.candidate_s * 1e6:.1f} us, {timing.speedup:.3f}x itself" if timing else "no timing"
            print(f"rms_norm at {tokens} tokens, sandbox {mode}: {shown}", flush=True)


def main() -> None:
    """Print everything."""
    scenarios = pick()
    end_rows(scenarios, sys.argv[1:])
    if not sys.argv[1:]:
        start_rows()
        timing_rows(scenarios)


if __name__ == "__main__":
    sys.exit(main())
