"""A starter as a supervisor sees it, and the workers that it forks, with what is used of subprocess.Popen."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fastkernels.bench.isolate.files import tail_of
from fastkernels.bench.isolate.starter import label, wire
from fastkernels.bench.isolate.starter.wire import Message
from fastkernels.errors import WorkerError

START_TIMEOUT_S = 180.0
"""Longest that a starter may take to import torch, or to answer at all."""

_TAIL_BYTES = 2000


class RefusedError(Exception):
    """The starter forks no worker, since what it has in memory is not what lies on disk or in the environment."""


class Connection:
    """Requests to one starter; threads take turns."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lock, self._asked = connection, threading.Lock(), 0
        connection.settimeout(START_TIMEOUT_S)
        self._finalizer = weakref.finalize(self, connection.close)

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], digest: str, fds: Sequence[int]) -> "Forked":
        """Fork a worker in this process's directory; fds: its log, its connection and its arenas.

        RefusedError where a new starter is due, OSError or EOFError where this one is gone, WorkerError where the
        system has no process left.
        """
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        message = {"do": "spawn", "argv": list(argv), "env": dict(environment), "digest": digest, "umask": _umask(),
                   "cores": sorted(os.sched_getaffinity(0))}
        try:
            reply = self.ask(message, [here, *fds])
        finally:
            os.close(here)
        if "refused" in reply:
            raise RefusedError(reply["refused"])
        if "failed" in reply:
            raise WorkerError(f"no worker can be forked: {reply['failed']}")
        return Forked(self, reply["pid"])

    def ask(self, message: Message, fds: Sequence[int] = ()) -> Message:
        """One request and its answer; that to an earlier one, which an interrupt has left unread, is passed over."""
        with self._lock:
            self._asked += 1
            number = self._asked
            wire.send(self._connection, {**message, "id": number}, fds)
            while (reply := wire.receive(self._connection)[0])["id"] != number:
                continue
            return reply

    def close(self) -> None:
        """Give the connection up; the starter ends what it has started for it."""
        self._finalizer()


class Starter:
    """A starter of this process's own. kind: `trusted` or `candidate`. It ends with this process or by `close`."""

    def __init__(self, kind: str, environment: Mapping[str, str]) -> None:
        self.kind = kind
        self._log = tempfile.TemporaryFile(prefix="fastkernels-starter-")  # noqa: SIM115  closed in close()
        ours, theirs = wire.open_pair()
        self.door, door = wire.open_pair()
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", "fastkernels.bench.isolate.starter.server",
                   "--kind", kind, "--fd", str(theirs.fileno()), "--door", str(door.fileno()),
                   "--parent", str(os.getpid()), "--room", "." * label.ROOM_BYTES]
        with theirs, door:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**environment, "FASTKERNELS_ROOM": "." * label.ROOM_BYTES},
                pass_fds=(theirs.fileno(), door.fileno()))
        self.pid = self._process.pid
        self.connection = Connection(ours)
        self._finalizer = weakref.finalize(self, _end, self._process, os.getpid(), ours, self.door, self._log)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._finalizer.alive and self._process.poll() is None

    def last_words(self) -> str:
        """The end of what it printed."""
        return tail_of(self._log.fileno(), _TAIL_BYTES)

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], digest: str, fds: Sequence[int]) -> "Forked":
        """As `Connection.spawn`; the worker keeps its starter from being given up."""
        worker = self.connection.spawn(argv, environment, digest, fds)
        worker.starter = self
        return worker

    def close(self) -> None:
        """End it with every worker that it has started; a second call does nothing."""
        self._finalizer()


class Forked:
    """A worker process that a starter has forked for this process."""

    def __init__(self, connection: Connection, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """Exit status, negative for a signal; None while it runs."""
        self.is_lost = False
        """Whether its starter was gone before it could say how this process ended."""
        self.starter: Starter | None = None
        """Its starter, where that is this process's own."""
        self._connection = connection
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """`returncode`, after a look."""
        if self.returncode is None and self._ended(0):
            self._reap()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """As Popen.wait: subprocess.TimeoutExpired where it runs longer, seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0)
            self._ended(left)
        assert self.returncode is not None
        return self.returncode

    def _ended(self, timeout_s: float | None) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def _reap(self) -> None:
        try:
            self.returncode = self._connection.ask({"do": "reap", "pid": self.pid})["status"]
        except (OSError, EOFError):  # the kernel has ended it with its starter
            self.returncode, self.is_lost = -signal.SIGKILL, True
        if self.returncode is not None:
            os.close(self._pidfd)


def failed(starter: Starter, error: Exception) -> WorkerError:
    """The error of a starter that could not be asked."""
    return WorkerError(f"the process that starts {starter.kind} workers has ended ({error or 'no answer'})\n"
                       f"{starter.last_words()}")


def _umask() -> int:
    """This process's mask, read without setting it: threads may be making files."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("Umask:") + 1], 8)


def _end(process: "subprocess.Popen[bytes]", owner: int, *files: "socket.socket | IO[Any]") -> None:
    """Kill a starter and close what is this process's of it; in a forked copy of the supervisor only close."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for file in files:
        file.close()
