"""The starters that this process uses: one a kind and environment, its own or those of a process above it."""

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fastkernels.bench.isolate.starter import wire
from fastkernels.bench.isolate.starter.client import Connection, Forked, RefusedError, Starter, failed
from fastkernels.bench.isolate.starter.sources import environment_digest
from fastkernels.env import STARTERS, given_starters

KINDS = ("trusted", "candidate")
MOST_OF_A_KIND = 2
"""Starters of a kind, under different environments, that a process keeps: each takes 300 MB."""

_PIDFD_GETFD = 438
_START_TIME = 19
"""Field starttime of /proc/PID/stat, counted after the command's name: with it a process id names one process only."""


@dataclass
class Starters:
    """What one process has started and what it was given."""

    spawner: Callable[..., object]
    """Runs a call in the thread that starts all processes of this one: the kernel ends a child with that thread."""
    own: dict[tuple[str, str], Starter] = field(default_factory=dict)
    """By kind and environment."""
    given: dict[str, Connection] = field(default_factory=dict)
    """Connections to starters of a process above, by kind, while they are of use."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever looks for a starter, so that two threads do not begin two."""

    def start(self, kind: str, environment: Mapping[str, str]) -> Starter:
        """This process's own starter for an environment, begun where there is none; does not wait for it."""
        key = kind, environment_digest(environment)
        with self.lock:
            starter = self.own.get(key)
            if starter is None or not starter.alive:
                made = self.spawner(Starter, kind, environment)
                assert isinstance(made, Starter)
                starter = self.own[key] = made
                for old in [known for known in self.own if known[0] == kind][:-MOST_OF_A_KIND]:
                    del self.own[old]  # it ends with the last worker that it has started
            return starter

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Begin what `spawn` will need, so that importing torch goes on meanwhile."""
        for kind in KINDS:
            if kind not in self.given:
                self.start(kind, environment)

    def spawn(self, kind: str, argv: Sequence[str], environment: Mapping[str, str], base: Mapping[str, str],
              fds: Sequence[int]) -> Forked:
        """Fork a worker; base: the environment without what is this worker's own. WorkerError where that cannot be."""
        digest = environment_digest(base)
        if kind in self.given:
            try:
                return self.given[kind].spawn(argv, environment, digest, fds)
            except RefusedError:  # as under another environment: one of its own serves this time
                pass
            except (OSError, EOFError):
                del self.given[kind]
        for _ in range(2):
            starter = self.start(kind, base)
            try:
                return starter.spawn(argv, environment, digest, fds)
            except RefusedError:  # sources have changed since it began: a new one reads them
                self._give_up(starter)
            except (OSError, EOFError) as error:
                problem = failed(starter, error)
                starter.close()
                raise problem from error
        raise failed(self.start(kind, base), RuntimeError("its sources change all the time"))

    def _give_up(self, starter: Starter) -> None:
        """Use it no more; it ends with the last worker that it has started."""
        with self.lock:
            for key in [key for key, known in self.own.items() if known is starter]:
                del self.own[key]

    def share(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Variables that let processes below use this one's starters, where the kernel lets them fetch descriptors."""
        given = os.environ.get(STARTERS)
        if self.given and given:
            return {STARTERS: given}
        doors = [str(self.start(kind, environment).door.fileno()) for kind in KINDS]
        return {STARTERS: ":".join([str(os.getpid()), _start_time(os.getpid()), *doors])}

    def close(self) -> None:
        """End what this process has started; it may start again."""
        for starter in self.own.values():
            starter.close()
        for connection in self.given.values():
            connection.close()
        self.own.clear()
        self.given.clear()


def starters() -> Starters:
    """Those of the calling process; a forked copy of a supervisor has none."""
    return _starters_of(os.getpid())


@cache
def _starters_of(owner: int) -> Starters:
    threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"fastkernels-spawner-{owner}")
    return Starters(lambda call, *args: threads.submit(call, *args).result(), given=_fetch(given_starters()))


def _fetch(text: str) -> dict[str, Connection]:
    """Connections to the starters that STARTERS names; none where they are gone or the kernel refuses."""
    words = text.split(":")
    if len(words) != 2 + len(KINDS) or not all(word.isdecimal() for word in words):
        return {}
    owner, started, *doors = words
    found = {}
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(int(owner))
        try:
            if _start_time(int(owner)) == started:
                found = {kind: _enter(_descriptor_of(pidfd, int(fd))) for kind, fd in zip(KINDS, doors, strict=True)}
        finally:
            os.close(pidfd)
    return found


def _enter(door: int) -> Connection:
    """Send the other end of a new connection through a door."""
    ours, theirs = wire.open_pair()
    with theirs, socket.socket(fileno=door) as entry:
        wire.send(entry, {"do": "connect"}, [theirs.fileno()])
    return Connection(ours)


def _descriptor_of(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor, which takes the right to trace it: no candidate's process has that."""
    found: int = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, number, 0)
    if found < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return found


def _start_time(pid: int) -> str:
    """When a process began, in ticks since boot; '' for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_TIME]
    except OSError:
        return ""
