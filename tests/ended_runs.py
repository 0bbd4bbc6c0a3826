"""Runs of pytest in a process group of their own, to be ended from outside, and what they have left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from heeded import heed_signals

from fastkernels.bench.isolate import launch

HOME = os.environ["HOME"]
LIMIT_S = 300
"""Longest that anything is waited for; none of it takes as long but where something is broken."""
HANGS_AT_32 = """\
import time

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype or torch.get_default_dtype()))
        self.eps = eps

    def forward(self, x, residual=None):
        if x.shape[-1] == 32:
            time.sleep(3600)
        wide = x.float() if residual is None else x.float() + residual.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return normed.to(x.dtype) if residual is None else (normed.to(x.dtype), wide.to(x.dtype))
"""
"""Right for tiny-a, whose hidden size is 64, and without end for tiny-b's 32."""
FINISHED = {f"rms_norm[tiny-a-tp{tp}-s{tokens}]" for tp in (1, 2) for tokens in (1, 8)}
"""What such a candidate has been graded on before it hangs."""
HANGING = {f"rms_norm[tiny-b-tp1-s{tokens}]" for tokens in (1, 8)}
SELECTED = ("--fk-target=rms_norm", "--fk-device=cpu", "--fk-no-timing", "--fk-candidates=kernels",
            "--fk-manifest=tiny.yaml")


class Running:
    """One run of pytest in `folder`, with the plugins that are named and no other."""

    def __init__(self, folder: Path, *args: str, plugins: tuple[str, ...] = ()) -> None:
        named = [f"-p{name}" for name in ("pytest_fastkernels.plugin", "benchmark", "xdist", *plugins)]
        self.log = folder / "bench/results/kernels.jsonl"
        self.printed = folder / "printed.txt"
        with self.printed.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *named, *args], cwd=folder, stdout=file, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=heed_signals,
                env={**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": own_locks(folder)})

    def wait_for_lines(self, count: int) -> None:
        """Wait until the log holds as many finished scenarios."""
        self.wait_until(lambda: len(logged(self.log)) >= count)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.05)

    def end(self, signum: int, group: bool = True) -> int:
        """Send a signal, to all of the group as a terminal does or to pytest alone; return the exit status."""
        (os.killpg if group else os.kill)(self.process.pid, signum)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        try:
            return self.process.wait(LIMIT_S)
        finally:
            self.close()

    def close(self) -> None:
        """Kill what is left of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def output(self) -> str:
        return self.printed.read_text()


def own_locks(folder: Path) -> str:
    """A directory of temporary files, and so of locks: graders elsewhere on the machine are not waited for."""
    made = folder / "tmp"
    made.mkdir(exist_ok=True)
    return str(made)


def environment() -> dict[str, str]:
    """This process's, with its starters, which have torch imported: pytester has changed HOME, by which they differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", HOME)
        return {**os.environ, **launch.share()}


def logged(log: Path) -> list[str]:
    """Addresses that stand in a log, one for each whole line."""
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    return [json.loads(line)["result"]["id"] for line in lines if line.endswith(b"\n")]


def verdicts(data: dict[str, Any]) -> dict[str, str]:
    """Verdict by address; each stands once."""
    assert set(Counter(result["id"] for result in data["results"]).values()) <= {1}
    return {result["id"]: result["verdict"] for result in data["results"]}
