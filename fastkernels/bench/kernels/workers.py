"""The two worker processes of a grader: started together, kept warm, replaced when they end."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fastkernels.bench.isolate.files import ARENAS, create_file
from fastkernels.bench.isolate.memory import default_limit_bytes
from fastkernels.bench.isolate.process import WorkerEndedError, WorkerProcess
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sandbox import Sandbox, find_sandbox
from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.bench.kernels.spare import START_TIMEOUT_S, Spare
from fastkernels.errors import WorkerError
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict

TRUSTED_TIMEOUT_S = 900.0
"""Longest that one request to the trusted worker may take."""

_REPORTED = (Verdict.IMPORT_ERROR, Verdict.MISSING_CLASS, Verdict.INIT_ERROR, Verdict.WRONG_WEIGHTS,
             Verdict.FORWARD_ERROR, Verdict.OUT_OF_MEMORY, Verdict.PASSTHROUGH)
"""What a candidate's process may say of itself."""


class CandidateFailedError(Exception):
    """The candidate failed before there was anything to judge."""

    def __init__(self, verdict: Verdict, message: str, evidence: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message
        self.evidence = evidence


@dataclass
class Side:
    """One of the two processes."""

    role: str
    process: WorkerProcess | None = None
    greeted: bool = False
    loaded: str = ""
    """Hash of the candidates that the process has imported, or will."""

    def close(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.close()
        self.process, self.greeted = None, False


@dataclass
class Workers:
    """Trusted and candidate's worker on one device with the arenas between them."""

    settings: GraderSettings
    device: str
    hidden: tuple[Path, ...] = ()
    """Files and directories that the candidate's process must not see."""
    trusted_side: Side = field(default_factory=lambda: Side("baseline"))
    candidate_side: Side = field(default_factory=lambda: Side("candidate"))
    keeps_spare: ClassVar[bool] = True
    """Whether the next candidate's process is forked while one is at work: it takes a candidate in at once."""
    _arenas: list[int] = field(default_factory=list)
    _last: tuple[Path | None, str] = (None, "")

    def __post_init__(self) -> None:
        self.spare = Spare(lambda: self._new(self.candidate_side))

    def ready(self, directory: Path | None, loaded: str) -> None:
        """Start what is not running; a candidate's process that has imported other candidates is replaced."""
        if self.candidate_side.loaded != loaded:
            self.candidate_side.close()
        self.open_arenas()
        self._start(self.trusted_side, {"baseline": self.settings.baseline})
        self.candidate_side.loaded = loaded
        self._last = directory, loaded
        if self.candidate_side.process is None:
            self._start_candidate(directory)

    def open_arenas(self) -> list[int]:
        """Descriptors of the memory between the two processes, opened once."""
        if not self._arenas:
            self._arenas = [create_file() for _ in range(ARENAS)]
        return self._arenas

    def again(self) -> None:
        """Start what has ended since `ready`, with the same candidates."""
        self.ready(*self._last)

    def hide(self, scenario: Scenario) -> None:
        """Have the recorded values of a scenario hidden from the candidate; a process that sees them is replaced."""
        if scenario.golden is None:
            return
        folder = Path(scenario.golden["file"]).parent
        if folder not in self.hidden:
            self.hidden += (folder,)
            self.candidate_side.close()
            self.spare.close()

    def trusted(self, request: Message) -> Message:
        """Ask the trusted worker; WorkerError where it fails."""
        side = self.trusted_side
        try:
            self._greet(side)
            assert side.process is not None
            reply = side.process.request(request, TRUSTED_TIMEOUT_S)
        except WorkerEndedError as error:
            side.close()
            raise WorkerError(f"the trusted worker: {error.message} ({request['do']})\n{error.evidence}") from error
        if "error" in reply:
            side.close()
            raise WorkerError(f"the trusted worker: {request['do']}\n{reply['error']}")
        return reply

    def candidate(self, request: Message) -> Message:
        """Ask the candidate's worker; CandidateFailedError where it fails, ends, hangs or answers nonsense."""
        side = self.candidate_side
        self._greet(side)
        assert side.process is not None
        try:
            reply = side.process.request(request, self._timeout_s(request))
        except WorkerEndedError as error:
            side.close()
            raise CandidateFailedError(error.verdict, f"{error.message} ({request['do']})", error.evidence) from error
        if "error" in reply:
            side.close()
            raise CandidateFailedError(Verdict.NO_RESULT, f"the process broke during {request['do']}",
                                       str(reply["error"])[-8000:])
        if "verdict" in reply:
            if reply.get("poisoned"):
                side.close()
            raise _reported(reply)
        return reply

    @property
    def candidates_dir(self) -> Path | None:
        """Directory of the candidates that the process was last made ready for."""
        return self._last[0]

    def candidate_cpu_s(self) -> float:
        """CPU seconds of the candidate's process and all that it started, so far."""
        process = self.candidate_side.process
        return 0.0 if process is None else process.cpu_s()

    def pids(self) -> list[int]:
        """Process ids of what is running."""
        processes = (self.trusted_side.process, self.candidate_side.process, self.spare.process)
        return [process.pid for process in processes if process is not None]

    def close(self) -> None:
        """End both processes, and the spare one, and give the arenas back."""
        self.trusted_side.close()
        self.candidate_side.close()
        self.spare.close()
        for fd in self._arenas:
            os.close(fd)
        self._arenas = []

    def _start_candidate(self, directory: Path | None) -> None:
        limit = self.settings.memory_limit_bytes or default_limit_bytes()
        process = self.spare.take()
        process.limit_memory(limit)
        self._start(self.candidate_side, {"candidates": None if directory is None else str(directory),
                                          "allow_passthrough": self.settings.allow_passthrough,
                                          "memory_limit_bytes": limit}, process)

    def _start(self, side: Side, hello: dict[str, Any], process: WorkerProcess | None = None) -> None:
        if side.process is None:
            side.process = process or self._new(side)
            side.process.post({"do": "hello", **hello})
            side.greeted = False

    def _new(self, side: Side) -> WorkerProcess:
        return WorkerProcess(side.role, self._device_of(side), self._arenas_of(side), self._sandbox(), self.hidden,
                             self.settings.disk_limit_bytes)

    def _timeout_s(self, request: Message) -> float:
        """Longest that a request to the candidate may take."""
        del request
        return self.settings.timeout_s

    def _device_of(self, side: Side) -> str:
        """Where a side works."""
        del side
        return self.device

    def _arenas_of(self, side: Side) -> list[int]:
        """Descriptors of the arenas that a side sees."""
        del side
        return self._arenas

    def _sandbox(self) -> Sandbox:
        """What the candidate's process is kept from."""
        return find_sandbox(self.settings.sandbox, self.device)

    def _greet(self, side: Side) -> None:
        """Wait until a process that was started has its device ready; no candidate has been imported by then."""
        if side.greeted:
            return
        assert side.process is not None
        try:
            reply = side.process.answer(START_TIMEOUT_S)
        except WorkerEndedError as error:
            side.close()
            raise WorkerError(f"the {side.role} worker did not start: {error.message}\n{error.evidence}") from error
        if "error" in reply:
            side.close()
            raise WorkerError(f"the {side.role} worker did not start\n{reply['error']}")
        side.greeted = True
        if side is self.candidate_side and self.keeps_spare:
            self.spare.prepare()


def _reported(reply: Message) -> CandidateFailedError:
    known = {str(verdict): verdict for verdict in _REPORTED}
    verdict = known.get(str(reply["verdict"]))
    if verdict is None:
        return CandidateFailedError(Verdict.NO_RESULT, "the process gave a verdict that is not its to give", "")
    return CandidateFailedError(verdict, str(reply.get("message", ""))[:1000], str(reply.get("evidence", ""))[-8000:])
