"""The two worker processes of a grader: started together, kept warm, replaced when they end."""

import os
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fastkernels.bench.isolate.devices import kind_of
from fastkernels.bench.isolate.files import ARENAS, create_file
from fastkernels.bench.isolate.memory import default_limit_bytes, tells_out_of_memory
from fastkernels.bench.isolate.process import WorkerEndedError, WorkerProcess
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sandbox import Sandbox, find_sandbox
from fastkernels.bench.kernels.builds import Builds, is_empty, is_locked
from fastkernels.bench.kernels.gpu_memory import GpuMemory, read_devices
from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.bench.kernels.spare import START_TIMEOUT_S, Spare
from fastkernels.errors import WorkerError
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict

TRUSTED_TIMEOUT_S = 900.0
"""Longest that one request to the trusted worker may take."""

_BUILDING = ("import", "build", "reload")
"""Requests in which a candidate may compile; `reload` builds anew where weights have other names."""

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
    builds: Builds | None = None
    """Where candidates compile to, for more than one process; None for each process's own."""
    waited_s: float = 0.0
    """Seconds spent waiting for another grader to import the same candidate, since this was last set to 0."""
    keeps_spare: ClassVar[bool] = True
    """Whether the next candidate's process is forked while one is at work: it takes a candidate in at once."""
    _arenas: list[int] = field(default_factory=list)
    _last: tuple[Path | None, str] = (None, "")
    _first: ExitStack = field(default_factory=ExitStack)
    """Holds back other graders until the candidate's import has ended."""

    def __post_init__(self) -> None:
        self.spare = Spare(lambda: self._new(self.candidate_side))
        self.memory = GpuMemory(read_devices) if kind_of(self.device) == "cuda" else None

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
        """Ask the trusted worker; WorkerError where it fails, CandidateFailedError where it was left no GPU memory."""
        try:
            return self._ask_trusted(request)
        except WorkerError as error:
            if self.memory is not None and tells_out_of_memory(str(error)):
                self._blame(str(request["do"]), str(error))
            raise

    def _ask_trusted(self, request: Message) -> Message:
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
            reply = self._ask(side.process, request)
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
        if self.memory is not None and (request["do"] in _BUILDING or request.get("last")) and self.memory.is_suspect():
            self._blame(str(request["do"]))
            self.memory.accuses = False  # other processes fill the device, or the trusted worker does
            raise WorkerError("the GPU is nearly full, and the candidate's process that was ended held little of it")
        return reply

    def _blame(self, doing: str, evidence: str = "") -> None:
        """End the candidate's process; CandidateFailedError where it held more than its part of a GPU's memory."""
        if self.memory is None or self.candidate_side.process is None:
            return
        held = self.memory.held(self.candidate_side.close)
        if held:
            raise CandidateFailedError(Verdict.OUT_OF_MEMORY, f"{held} ({doing})", evidence[-8000:])

    def _ask(self, process: WorkerProcess, request: Message) -> Message:
        """One request to the candidate; what it has begun to compile and did not end is used by nobody."""
        builds, folder = self.builds, process.builds
        says, broken, spoilt = request["do"] in _BUILDING, False, False
        try:
            with builds.building(self._module(request)) if builds and says else nullcontext():
                reply = process.request(request, self._timeout_s(request))
            broken = request["do"] == "import" and ("error" in reply or "verdict" in reply)
        except WorkerEndedError as error:
            spoilt = request["do"] == "import" or error.verdict is Verdict.LIMIT_EXCEEDED
            broken = spoilt or (folder is not None and is_locked(folder))
            raise
        finally:
            if request["do"] == "import":
                self._first.close()
            if builds is not None and folder is not None and broken:
                builds.forget(self.candidate_side.loaded, folder, remove=spoilt)
        return reply

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
        self._first.close()
        for fd in self._arenas:
            os.close(fd)
        self._arenas = []

    def _start_candidate(self, directory: Path | None) -> None:
        limit = self.settings.memory_limit_bytes or default_limit_bytes()
        process = self._process_for(self.candidate_side.loaded)
        process.limit_memory(limit)
        if self.memory is not None:
            self.memory.note()
        self._start(self.candidate_side, {"candidates": None if directory is None else str(directory),
                                          "allow_passthrough": self.settings.allow_passthrough,
                                          "memory_limit_bytes": limit}, process)

    def _process_for(self, loaded: str) -> WorkerProcess:
        """The spare process, or a new one where there is something compiled for it to find.

        Who is the first to import these files, of all graders of the run, holds the others back meanwhile.
        """
        if self.builds is None or not loaded:
            return self.spare.take()
        self._first.close()
        self.waited_s += self._first.enter_context(self.builds.first(loaded, self.settings.longest_build_s))
        folder = self.builds.of(loaded)
        if folder is not None and not (self.builds.is_mine(loaded) and is_empty(folder)):
            self._first.close()
            return self._new(self.candidate_side, folder)
        process = self.spare.take()
        if process.builds is not None:
            self.builds.give(loaded, process.builds)
        return process

    def _start(self, side: Side, hello: dict[str, Any], process: WorkerProcess | None = None) -> None:
        if side.process is None:
            side.process = process or self._new(side)
            side.process.post({"do": "hello", **hello})
            side.greeted = False

    def _new(self, side: Side, builds: Path | None = None) -> WorkerProcess:
        if side is self.candidate_side and self.builds is not None:
            builds = builds or self.builds.fresh()
        return WorkerProcess(side.role, self._device_of(side), self._arenas_of(side), self._sandbox(), self.hidden,
                             self.settings.disk_limit_bytes, self._variables(), builds)

    def _module(self, request: Message) -> str:
        """What is being imported or built, for people."""
        scenario = request.get("scenario")
        return str(request["module"] if scenario is None else scenario["op"])

    def _variables(self) -> dict[str, str]:
        """What of the user's environment is passed on by name."""
        return {name: os.environ[name] for name in self.settings.env if name in os.environ}

    def _timeout_s(self, request: Message) -> float:
        """Longest that a request to the candidate may take."""
        return self.settings.longest_build_s if request["do"] in _BUILDING else self.settings.timeout_s

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
