"""One worker process as the supervisor sees it: start, requests with a deadline, verdict of its end, reaping."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from fastkernels.bench.isolate import process_tree, protocol, stacks
from fastkernels.bench.isolate.devices import kind_of
from fastkernels.bench.isolate.environment import scratch_environment
from fastkernels.bench.isolate.files import tail_of
from fastkernels.bench.isolate.launch import Child, launch
from fastkernels.bench.isolate.memory import kernel_oom_kills, tells_out_of_memory
from fastkernels.bench.isolate.protocol import DeadlineError, Message, PeerClosedError, ProtocolError
from fastkernels.bench.isolate.sandbox import OPEN, Sandbox, encode
from fastkernels.bench.isolate.watch import Limits, Watch
from fastkernels.errors import WorkerError
from fastkernels.results import Verdict
from fastkernels.results.text import plain, plain_data

TAIL_BYTES = 4000
"""How much of a dead worker's output becomes evidence."""

REAP_S = 5.0
"""How long a process that closed its socket may take to end, and a killed one to be gone."""

RELAY_S = 2.0
"""How long the relay above a killed candidate may take to see the end of all below it."""


class VerdictError(Exception):
    """What has happened is a verdict."""

    def __init__(self, verdict: Verdict, message: str, evidence: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message
        self.evidence = evidence


class WorkerEndedError(VerdictError):
    """The worker died, hung or answered nonsense; it is gone when this is raised."""


class WorkerProcess:
    """A child process in a session of its own that answers requests; killed with its whole group on close.

    role: `baseline` (trusted), `ranks` (the same for several ranks) or `candidate`. arenas: descriptors of the shared
    memory files that it inherits. sandbox: what a candidate is kept from; with a scratch directory of its own, which
    goes with it. hidden: what a candidate in a mount namespace of its own does not see. disk_limit_bytes: files that
    it may have in its scratch directory. variables: what it sees besides those that every worker may. builds: a
    folder that outlives it, for what it compiles; else that lies in its scratch directory. under: a program that runs
    it. hear: told what the process prints, while an answer is waited for and with each one. Limits on the whole tree
    hold while an answer is waited for.
    """

    def __init__(self, role: str, device: str, arenas: Sequence[int] = (), sandbox: Sandbox = OPEN,
                 hidden: Sequence[Path] = (), disk_limit_bytes: int | None = None,
                 variables: Mapping[str, str] | None = None, builds: Path | None = None,
                 under: Sequence[str] = (), hear: Callable[[str], None] | None = None) -> None:
        self.role = role
        self._hear = hear
        self._heard = 0
        self.builds = builds
        self._log = tempfile.TemporaryFile(prefix=f"fastkernels-{role}-")  # noqa: SIM115  closed in close()
        self._oom_kills = kernel_oom_kills()
        self._socket, theirs = socket.socketpair()
        words = ["--role", role, "--device", device]
        self._scratch = tempfile.mkdtemp(prefix="fastkernels-scratch-") if role == "candidate" else None
        own = dict(variables or {})
        if self._scratch is not None:
            words += ["--sandbox", encode(sandbox), "--scratch", self._scratch]
            words += [word for path in hidden for word in ("--hidden", str(path))]
            words += ["--builds", str(builds)] if builds else []
            own |= scratch_environment(self._scratch, str(builds) if builds else None)
        with theirs, ExitStack() as undo:
            undo.callback(self._release)
            self._process = launch(role, words, own, self._log.fileno(), theirs.fileno(), arenas, under)
            undo.pop_all()
        self._pidfd = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None
        self._finalizer = weakref.finalize(self, _end_process, self._process, os.getpid(), self._scratch,
                                           role == "candidate" and sandbox.mode != "off")
        watched = self._scratch is not None and sandbox.mode != "off" and sys.platform == "linux"
        written = [str(folder) for folder in (self._scratch, builds) if folder]
        self._watch = Watch(self.pid, written, list(arenas), Limits(disk_bytes=disk_limit_bytes),
                            kind_of(device)) if watched else None
        self._request_id = ""
        self._cpu_s = 0.0
        self.closed = False

    @property
    def pid(self) -> int:
        """Process id, which is also its group's id."""
        return self._process.pid

    def limit_memory(self, limit_bytes: int | None) -> None:
        """Host memory that its tree may take from now on beyond its start; None for no limit."""
        if self._watch is not None:
            self._watch.limits = replace(self._watch.limits, memory_bytes=limit_bytes)

    def request(self, message: Message, timeout_s: float) -> Message:
        """Send one message and return the answer, as `post` and `answer` do."""
        self.post(message)
        return self.answer(timeout_s)

    def post(self, message: Message) -> None:
        """Send one message; `answer` must follow."""
        self._request_id = secrets.token_hex(16)  # so that no answer can be written ahead
        with contextlib.suppress(PeerClosedError, DeadlineError):  # answer() finds out why
            protocol.send(self._socket, {**message, "id": self._request_id}, time.monotonic() + REAP_S)

    def answer(self, timeout_s: float) -> Message:
        """Return the answer to the last `post`; WorkerEndedError where none comes within `timeout_s`."""
        try:
            reply = protocol.receive(self._socket, time.monotonic() + timeout_s, self._pidfd,
                                     self._look if self._watch or self._hear else None)
            self.listen()
            if reply.pop("id", None) != self._request_id:
                raise ProtocolError("an answer to another request")
            return _readable(reply)
        except DeadlineError:
            self.listen()
            stack = stacks.ask(self.pid, self._log.fileno()) if self.role == "candidate" else ""
            self._heard = os.fstat(self._log.fileno()).st_size
            self._end(Verdict.HUNG, f"no answer within {timeout_s:g} s", last_words=False, stack=stack)
        except ProtocolError as error:
            self._end(Verdict.NO_RESULT, f"the process answered {plain(str(error))}", last_words=False)
        except PeerClosedError:
            self._died()
        except BaseException:  # an interrupt: the answer would be taken for that to the next request
            self.close()
            raise

    def listen(self) -> None:
        """Pass on what the process has printed since the last time."""
        if self._hear is None:
            return
        size = os.fstat(self._log.fileno()).st_size
        if size > self._heard:
            start = max(self._heard, size - TAIL_BYTES)
            self._hear(os.pread(self._log.fileno(), size - start, start).decode(errors="replace"))
        self._heard = size

    def _look(self) -> None:
        """Pass on what it prints, and end the worker where its tree takes too much."""
        self.listen()
        over = self._watch.look() if self._watch else None
        if over is not None:
            self._end(over[0], f"the candidate took {over[1]}", last_words=False)

    def cpu_s(self) -> float:
        """CPU seconds that the process and everything it started have used so far, read from outside.

        All threads and the dead children that were reaped count; never less than at the call before. Only Linux says
        it: 0.0 elsewhere. Once closed, what was read last.
        """
        if sys.platform == "linux" and not self.closed:
            self._cpu_s = max(self._cpu_s, process_tree.cpu_s(self.pid))
        return self._cpu_s

    def processes(self) -> int:
        """Processes of its tree, itself included; only Linux tells: 1 elsewhere, and once it is closed."""
        return max(1, len(self.members()))

    def members(self) -> list[int]:
        """Process ids of its tree, itself first; only Linux tells: none elsewhere, and once it is closed."""
        return process_tree.members(self.pid) if sys.platform == "linux" and not self.closed else []

    def output_tail(self) -> str:
        """The end of what the process printed."""
        return plain(tail_of(self._log.fileno(), TAIL_BYTES))

    def leave(self, timeout_s: float) -> None:
        """Have the process end by itself; one that does not is still there."""
        self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process and all that it started; whoever waits for its answer in another thread learns of it."""
        if sys.platform == "linux":
            _kill_below(self.pid)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and its group and reap it; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self._finalizer()
        self.listen()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._release()

    def _release(self) -> None:
        """Give back what there was before the process."""
        self._socket.close()
        self._log.close()
        _remove(self._scratch)

    def _died(self) -> NoReturn:
        """Turn the end of the process into its verdict."""
        try:
            status = self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            self._end(Verdict.NO_RESULT, "the process closed its connection without an answer")
        if getattr(self._process, "is_lost", False):
            self.close()
            raise WorkerError(f"the {self.role} worker has ended with the process that had started it")
        if status >= 0:
            self._end(Verdict.EXITED, f"the process ended by itself with exit status {status}")
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        killed_by_kernel = -status == signal.SIGKILL and kernel_oom_kills() > self._oom_kills
        if killed_by_kernel or tells_out_of_memory(self.output_tail()):
            self._end(Verdict.OUT_OF_MEMORY, f"the process ran out of memory ({name})")
        self._end(Verdict.CRASHED, f"the process was ended by {name}")

    def _end(self, verdict: Verdict, message: str, last_words: bool = True, stack: str = "") -> NoReturn:
        evidence = stack or self.output_tail()
        if not last_words and self._process.poll() is None:
            evidence = f"{evidence}\n(the process was killed by the supervisor)".strip()
        self.close()
        raise WorkerEndedError(verdict, message, evidence)


def _readable(reply: Message) -> Message:
    """An answer with its texts made plain: whatever a process writes into them ends in files and on terminals."""
    try:
        return {name: plain_data(value) for name, value in reply.items()}
    except RecursionError:
        raise ProtocolError("lists within lists without end") from None


def _end_process(process: Child, owner: int, scratch: str | None,
                 relayed: bool) -> None:
    """Kill a worker with everything below it and in its group; in a forked copy of the supervisor do nothing."""
    if os.getpid() != owner:
        return
    if sys.platform == "linux" and process.poll() is None:
        _kill_below(process.pid)
        if relayed:  # it reaps what is below and ends by itself; killed first, it would leave that to the system's init
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(RELAY_S)
    with contextlib.suppress(ProcessLookupError):  # all of the group is gone already
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; init will reap it
        process.wait(REAP_S)
    _remove(scratch)

def _remove(scratch: str | None) -> None:
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)  # a file that a killed process still writes is no reason to fail


def _kill_below(pid: int) -> None:
    """Kill what a worker's relay has below it, until nothing new shows; the relay itself inherits the orphans."""
    killed: set[int] = set()
    while found := set(process_tree.members(pid)[1:]) - killed:
        for child in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        killed |= found
