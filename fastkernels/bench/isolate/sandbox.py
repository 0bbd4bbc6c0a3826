"""What a candidate's worker is kept from, as this kernel allows; no torch."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from glob import glob
from typing import Any

MODES = ("auto", "require", "off")
"""What may be asked for: as much as the kernel has, all of it, nothing."""

ALL = ("pid", "ipc", "network", "mount")
"""Namespaces that a candidate's worker has of its own where nothing speaks against them."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
_GPUS = ("/dev/nvidia*", "/dev/nvhost*", "/dev/nvmap", "/dev/nvgpu*", "/dev/dxg")
_PIPES = "/tmp/nvidia-mps"
LANDLOCK_ABI = 6
"""The first Landlock with all that is used of it: files, TCP, signals and abstract sockets."""


@dataclass(frozen=True)
class Sandbox:
    """What is in force for a candidate's worker."""

    mode: str
    """`auto`, `require` or `off`."""
    namespaces: bool
    """Whether it has namespaces of its own."""
    landlock_abi: int
    """Version of Landlock that restricts it; 0 for none."""
    problem: str = ""
    """What was said where namespaces were refused, or where CUDA did not work in them."""
    wants_namespaces: bool = True
    """False on CUDA, whose IPC may need common ones."""
    tcp: bool = False
    """Whether it may use TCP: ranks speak to each other over loopback."""
    kinds: tuple[str, ...] = ALL
    """Which namespaces these are."""
    seccomp: bool = False
    """Whether a filter of system calls refuses all sockets but local ones, where there is no network namespace."""
    whole_dev: bool = False
    """Whether it may write to all of /dev and /proc, since CUDA did not work with less."""
    observed: dict[str, bool] = field(default_factory=dict)
    """What a process under it found when it tried, before anything was graded (`sandbox_probe`)."""

    @property
    def own(self) -> tuple[str, ...]:
        """Kinds of namespaces in force."""
        return self.kinds if self.namespaces else ()

    def missing(self) -> str:
        """What is not in force and what that means, in one line; '' where nothing is missing."""
        if self.mode == "off":
            return "sandbox off: a candidate can write files, reach the network and leave processes behind"
        lacks = list(self._lacks())
        return f"sandbox incomplete: {'; '.join(lacks)}" if lacks else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a result's environment."""
        return {**asdict(self), "kinds": list(self.own), "missing": self.missing()}

    def _lacks(self) -> Iterator[str]:
        if self.wants_namespaces and not self.namespaces:
            yield f"no namespaces ({self.problem}): a candidate can reach the network and sees other processes"
        if self.landlock_abi == 0:
            yield "no Landlock: a candidate can write files and signal or read processes of this user"
        elif self.landlock_abi < LANDLOCK_ABI:
            yield (f"Landlock ABI {self.landlock_abi} (full from {LANDLOCK_ABI}): a candidate can signal "
                   "processes of this user")
        if self.whole_dev:
            yield f"CUDA works with all of /dev and /proc alone ({self.problem}): a candidate can write to them"
        for name, means in _MEANS.items():
            if self.observed.get(name) is False:
                yield means


_MEANS = {
    "capabilities_dropped": "capabilities are kept: a candidate run by root can do what root can",
    "no_new_privileges": "privileges can be gained by running files",
    "no_udp": "a candidate can send datagrams",
    "environments_closed": "a candidate can read the environment of this user's other processes",
}
"""What it means where a process under the sandbox has observed the contrary."""

OPEN = Sandbox("off", False, 0)
"""No sandbox at all."""


def among_ranks(sandbox: Sandbox) -> Sandbox:
    """The same for one rank of several, whose processes must reach each other: no namespaces, TCP is open."""
    return replace(sandbox, namespaces=False, tcp=True)


@cache
def find_sandbox(mode: str, device: str) -> Sandbox:
    """What this kernel allows, found by doing it in a process of its own; once per process, about 0.1 s.

    On CUDA it is tried with the driver, which takes a second or more, and remembered for the machine's uptime.
    """
    on_cpu = device == "cpu"
    if mode == "off":
        return Sandbox(mode, False, 0, wants_namespaces=on_cpu)
    if sys.platform != "linux":
        return Sandbox(mode, False, 0, "not Linux", on_cpu)
    from fastkernels.bench.isolate import sandbox_probe

    return sandbox_probe.find_on_cpu(mode) if on_cpu else sandbox_probe.find_on_cuda(mode)


def confine(sandbox: Sandbox, scratch: str, parent: int, kept: Iterable[int], hidden: Iterable[str],
            writable: Iterable[str] = ()) -> None:
    """Return in a process under this sandbox; OSError where the kernel refuses what it allowed before.

    Call it with one thread. kept: descriptors that the worker needs and its guardians close. writable: further
    directories that it may write to.
    """
    from fastkernels.bench.isolate import landlock, namespaces, seccomp

    if sandbox.mode == "off":
        namespaces.die_with(parent)
        return
    if "pid" in sandbox.own:
        namespaces.enter(parent, kept, hidden, sandbox.own)
    else:
        namespaces.enter_tree(parent, kept, hidden, sandbox.own)
    if sandbox.landlock_abi:  # on CUDA processes pass descriptors through abstract sockets
        landlock.restrict((scratch, *writable, *_writable(sandbox)), tcp=sandbox.tcp,
                          abstract_sockets=not sandbox.wants_namespaces)
    if sandbox.seccomp and not sandbox.tcp and "network" not in sandbox.own:
        seccomp.local_sockets_only()


def _writable(sandbox: Sandbox) -> list[str]:
    """What it may write to besides its scratch directory; on CUDA what /proc tells of itself too (names of threads)."""
    found = list(_DEVICES)
    if "mount" in sandbox.own or (sandbox.tcp and not sandbox.wants_namespaces):  # its own; NCCL's between ranks
        found.append("/dev/shm")
    if not sandbox.wants_namespaces:
        found += ["/dev", "/proc"] if sandbox.whole_dev else [path for name in _GPUS for path in sorted(glob(name))]
        found += [f"/proc/{os.getpid()}", _PIPES, *filter(None, [os.environ.get("CUDA_MPS_PIPE_DIRECTORY")])]
    return found


def encode(sandbox: Sandbox) -> str:
    """For a worker's command line."""
    return json.dumps(asdict(sandbox))


def decode(text: str) -> Sandbox:
    """What `encode` made."""
    data = json.loads(text)
    return Sandbox(**{**data, "kinds": tuple(data["kinds"])})
