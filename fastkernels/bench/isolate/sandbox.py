"""What a candidate's worker is kept from, as this kernel allows; `python -m` this module tries it out. No torch."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

MODES = ("auto", "require", "off")
"""What may be asked for: as much as the kernel has, all of it, nothing."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
_CUDA = ("/dev", "/proc", "/tmp/nvidia-mps")
_PROBE_TIMEOUT_S = 30.0
LANDLOCK_ABI = 6
"""The first Landlock with all that is used of it: files, TCP, signals and abstract sockets."""


@dataclass(frozen=True)
class Sandbox:
    """What is in force for a candidate's worker."""

    mode: str
    """`auto`, `require` or `off`."""
    namespaces: bool
    """Whether it has PID, IPC, network and mount namespaces of its own; never on CUDA, whose IPC needs common ones."""
    landlock_abi: int
    """Version of Landlock that restricts it; 0 for none."""
    problem: str = ""
    """What the kernel said where it refused namespaces."""
    wants_namespaces: bool = True
    """False on CUDA."""
    tcp: bool = False
    """Whether it may use TCP: ranks speak to each other over loopback."""

    def missing(self) -> str:
        """What is not in force and what that means, in one line; '' where nothing is missing."""
        if self.mode == "off":
            return "sandbox off: a candidate can write files, reach the network and leave processes behind"
        lacks = []
        if self.wants_namespaces and not self.namespaces:
            lacks.append(f"no namespaces ({self.problem}): a candidate can reach the network and sees other processes")
        if self.landlock_abi == 0:
            lacks.append("no Landlock: a candidate can write files and signal or read processes of this user")
        elif self.landlock_abi < LANDLOCK_ABI:
            lacks.append(f"Landlock ABI {self.landlock_abi} (full from {LANDLOCK_ABI}): a candidate can signal "
                         "processes of this user")
        return f"sandbox incomplete: {'; '.join(lacks)}" if lacks else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a result's environment."""
        return {**asdict(self), "missing": self.missing()}


OPEN = Sandbox("off", False, 0)
"""No sandbox at all."""


def among_ranks(sandbox: Sandbox) -> Sandbox:
    """The same for one rank of several, whose processes must reach each other: no namespaces, TCP is open."""
    return replace(sandbox, namespaces=False, tcp=True)


@cache
def find_sandbox(mode: str, device: str) -> Sandbox:
    """What this kernel allows, found by doing it in a process of its own; once per process, about 0.1 s."""
    on_cpu = device == "cpu"
    if mode == "off":
        return Sandbox(mode, False, 0, wants_namespaces=on_cpu)
    if sys.platform != "linux":
        return Sandbox(mode, False, 0, "not Linux", on_cpu)
    from fastkernels.bench.isolate import landlock

    problem = _try_namespaces() if on_cpu else ""
    return Sandbox(mode, on_cpu and not problem, landlock.abi(), problem, on_cpu)


def confine(sandbox: Sandbox, scratch: str, parent: int, kept: Iterable[int], hidden: Iterable[str]) -> None:
    """Return in a process under this sandbox; OSError where the kernel refuses what it allowed before.

    Call it with one thread. kept: descriptors that the worker needs and its guardians close.
    """
    from fastkernels.bench.isolate import landlock, namespaces

    if sandbox.mode == "off":
        namespaces.die_with(parent)
        return
    if sandbox.namespaces:
        namespaces.enter(parent, kept, hidden)
    else:
        namespaces.enter_tree(parent, kept)
    if sandbox.landlock_abi:
        if sandbox.wants_namespaces:
            shm = ("/dev/shm",) if sandbox.namespaces else ()  # the namespaces' own
            landlock.restrict((scratch, *_DEVICES, *shm), abstract_sockets=False, tcp=sandbox.tcp)
        else:  # CUDA: processes pass descriptors through abstract sockets
            mps = filter(None, [os.environ.get("CUDA_MPS_PIPE_DIRECTORY")])
            landlock.restrict((scratch, *_CUDA, *mps), abstract_sockets=True, tcp=sandbox.tcp)


def _try_namespaces() -> str:
    """Why namespaces are not to be had, or ''."""
    from fastkernels.bench.isolate.launch import worker_environment

    command = [sys.executable, "-P", "-m", "fastkernels.bench.isolate.sandbox", str(os.getpid())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False,
                              env=worker_environment(), stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S:g} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _probe() -> None:
    from fastkernels.bench.isolate import namespaces

    try:
        namespaces.enter(int(sys.argv[1]), [], [])
    except OSError as error:
        sys.exit(str(error))
    os._exit(0)


def encode(sandbox: Sandbox) -> str:
    """For a worker's command line."""
    return json.dumps(asdict(sandbox))


def decode(text: str) -> Sandbox:
    """What `encode` made."""
    return Sandbox(**json.loads(text))


if __name__ == "__main__":
    _probe()
