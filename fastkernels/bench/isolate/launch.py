"""Starts a worker process: forked from a starter where that can be had, else executed."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import fastkernels
from fastkernels.bench.isolate.environment import allowed
from fastkernels.bench.isolate.starter.shared import starters
from fastkernels.env import STARTERS, worker_start

EQUAL_TERMS = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(1024**3),
    "GOMP_SPINCOUNT": "20000",
}
"""Puts both workers on equal terms on a CPU; what the user has set in the environment stays.

glibc maps each block over a threshold anew, page faults included, until the process has once freed one as large: with
its own history each worker had its own speed (rms_norm 128x2048 against itself: 0.03 to 0.2). 32 MiB is the most that
glibc takes. OpenMP threads that wait give up their core after a fifteenth of libgomp's own time, so that load beside
the run slows a call by its share and not by time slices of 8 ms; idle, calls take what they take without it.
"""


class Child(Protocol):
    """A worker process: what is used of subprocess.Popen."""

    pid: int

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status; subprocess.TimeoutExpired after `timeout` seconds."""


def forks() -> bool:
    """Whether workers are forked here."""
    return sys.platform == "linux" and worker_start() == "fork"


def prepare() -> None:
    """Begin what `launch` will need; returns at once."""
    if forks():
        starters().prepare(worker_environment())


def share() -> dict[str, str]:
    """Variables by which processes below this one find its starters; begins those."""
    return starters().share(worker_environment()) if forks() else {}


def launch(role: str, words: Sequence[str], own: Mapping[str, str], log: int, connection: int,
           arenas: Sequence[int], under: Sequence[str] = ()) -> Child:
    """Start a worker in a session of its own.

    words: its command line but for descriptors. own: variables that are its own. log, connection, arenas: descriptors
    that it inherits. under: a program and its arguments that runs it; such a worker is executed, not forked.
    WorkerError where no starter is to be had.
    """
    base = worker_environment()
    environment = {**base, **own}
    if forks() and not under:
        kind = "candidate" if role == "candidate" else "trusted"
        return starters().spawn(kind, words, environment, base, [log, connection, *arenas])
    parent = 0 if under else os.getpid()
    command = [*under, sys.executable, "-P", "-X", "faulthandler", "-m", "fastkernels.bench.isolate.worker", *words,
               "--fd", str(connection), "--parent", str(parent), "--arenas", ",".join(map(str, arenas))]
    child = starters().spawner(
        lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                 env=environment, start_new_session=True, pass_fds=(connection, *arenas)))
    assert isinstance(child, subprocess.Popen)
    return child


def worker_environment() -> dict[str, str]:
    """What workers may see of this process's environment, with EQUAL_TERMS where it says nothing of them.

    In a checkout that is not installed, with the checkout on the path.
    """
    environment = {**EQUAL_TERMS, **allowed(os.environ)}
    environment.pop(STARTERS, None)
    root = Path(fastkernels.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        others = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(root))]
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *others])
    return environment
