"""The two worker processes of a grader: started together, kept warm, replaced when they end."""

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fastkernels.bench.isolate.devices import kind_of
from fastkernels.bench.isolate.files import ARENAS, create_file
from fastkernels.bench.isolate.memory import default_limit_bytes, tells_out_of_memory
from fastkernels.bench.isolate.process import WorkerEndedError, WorkerProcess
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sandbox import Sandbox, find_sandbox
from fastkernels.bench.kernels.deadline import Deadline
from fastkernels.bench.kernels.failed import CandidateFailedError
from fastkernels.bench.kernels.gpu_memory import GpuMemory, read_devices
from fastkernels.bench.kernels.said import Said
from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.bench.kernels.settle import settle
from fastkernels.bench.kernels.shared_builds import BUILDING, SharedBuilds
from fastkernels.bench.kernels.spare import START_TIMEOUT_S, Spare
from fastkernels.errors import WorkerError
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict

__all__ = ["CandidateFailedError", "Side", "Workers"]

TRUSTED_TIMEOUT_S = 900.0
"""Longest that one request to the trusted worker may take."""

_REPORTED = (Verdict.IMPORT_ERROR, Verdict.MISSING_CLASS, Verdict.INIT_ERROR, Verdict.WRONG_WEIGHTS,
             Verdict.FORWARD_ERROR, Verdict.OUT_OF_MEMORY, Verdict.PASSTHROUGH)
"""What a candidate's process may say of itself."""


@dataclass
class Side:
    """One of the two processes."""

    role: str
    process: WorkerProcess | None = None
    greeted: bool = False
    loaded: str = ""
    """Hash of the candidates that the process has imported, or will."""
    processes: int = 0
    """Processes of which it consists before it has imported any."""

    def close(self) -> None:
        """End the process, if there is one."""
        process, self.process, self.greeted = self.process, None, False
        if process is not None:
            process.close()


@dataclass
class Workers:
    """Trusted and candidate's worker on one device with the arenas between them."""

    settings: GraderSettings
    device: str
    hidden: tuple[Path, ...] = ()
    """Files and directories that the candidate's process must not see."""
    trusted_side: Side = field(default_factory=lambda: Side("baseline"))
    candidate_side: Side = field(default_factory=lambda: Side("candidate"))
    runner_side: Side = field(default_factory=lambda: Side("runner"))
    """Runs the baseline in timed sections on CUDA, as the candidate's process runs the candidate."""
    builds: SharedBuilds | None = None
    """Where candidates compile to, for more than one process; None for each process's own."""
    deadline: Deadline = field(default_factory=Deadline)
    """When the scenario that is graded must have ended."""
    times: ClassVar[bool] = True
    """Whether anything is timed: several ranks are not."""
    keeps_spare: ClassVar[bool] = True
    """Whether the next candidate's process is forked while one is at work: it takes a candidate in at once."""
    said: Said = field(default_factory=Said)
    """What the candidate's processes print."""
    _arenas: list[int] = field(default_factory=list)
    _runner_arenas: list[int] = field(default_factory=list)
    _last: tuple[Path | None, str] = (None, "")

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
            self._runner_arenas = [create_file() for _ in range(ARENAS)] if self.has_runner else []
        return self._arenas

    @property
    def has_runner(self) -> bool:
        """Whether the baseline is timed in a process of its own."""
        return self.times and kind_of(self.device) == "cuda"

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
        return self._trust(self.trusted_side, request)

    def runner(self, request: Message) -> Message:
        """Ask the process that runs the baseline, started where it is not up; WorkerError where it fails."""
        self.ask_runner(request)
        return self.runner_answer()

    def ask_runner(self, request: Message) -> None:
        """Ask it and do not wait; `runner_answer` must follow."""
        self._start(self.runner_side, {"baseline": self.settings.baseline})
        self._greet(self.runner_side)
        assert self.runner_side.process is not None
        self.runner_side.process.post(request)

    def runner_answer(self) -> Message:
        """Its answer."""
        return self._trust(self.runner_side)

    def _trust(self, side: Side, request: Message | None = None) -> Message:
        """Ask a trusted process, or wait for its answer to what it was asked; who left it no GPU memory is blamed."""
        try:
            return self._ask_trusted(side, request)
        except WorkerError as error:
            if tells_out_of_memory(str(error)):
                self._blame("its answer" if request is None else str(request["do"]), str(error))
            raise

    def _ask_trusted(self, side: Side, request: Message | None) -> Message:
        what = "its answer" if request is None else request["do"]
        self.deadline.check()
        cut_s = self.deadline.cuts(TRUSTED_TIMEOUT_S)
        try:
            if request is not None:
                self._greet(side)
            assert side.process is not None
            if request is not None:
                side.process.post(request)
            reply = side.process.answer(cut_s or TRUSTED_TIMEOUT_S)
        except WorkerEndedError as error:
            side.close()
            if cut_s is not None and error.verdict is Verdict.HUNG:
                raise TimeoutError(self.deadline.over) from error
            raise WorkerError(f"the trusted worker: {error.message} ({what})\n{error.evidence}") from error
        if "error" in reply:
            side.close()
            raise WorkerError(f"the trusted worker: {what}\n{reply['error']}")
        return reply

    def candidate(self, request: Message) -> Message:
        """Ask the candidate's worker; CandidateFailedError where it fails, ends, hangs or answers nonsense."""
        side, builds = self.candidate_side, self.builds
        folder = side.process.builds if side.process is not None else None
        with builds.during(request, side.loaded, folder) if builds is not None else nullcontext():
            self.ask_candidate(request)
            reply = self.candidate_answer(request)
            if request["do"] in BUILDING or request.get("last"):
                self._check_memory(str(request["do"]))
            return reply

    def ask_candidate(self, request: Message) -> None:
        """Ask it and do not wait; `candidate_answer` must follow."""
        side = self.candidate_side
        self._greet(side)
        self.deadline.check()
        assert side.process is not None
        side.process.post(request)

    def candidate_answer(self, request: Message, timeout_s: float | None = None) -> Message:
        """Its answer to this request, within the time of its kind where no other is given."""
        side = self.candidate_side
        assert side.process is not None
        limit_s = timeout_s or self._timeout_s(request)
        cut_s = self.deadline.cuts(limit_s)
        try:
            reply = side.process.answer(cut_s or limit_s)
        except WorkerEndedError as error:
            side.close()
            hung = cut_s is not None and error.verdict is Verdict.HUNG
            message = f"no answer within {self.deadline.limit}" if hung else error.message
            raise CandidateFailedError(error.verdict, f"{message} ({request['do']})", error.evidence) from error
        if "error" in reply:
            side.close()
            raise CandidateFailedError(Verdict.NO_RESULT, f"the process broke during {request['do']}",
                                       str(reply["error"])[-8000:])
        if "verdict" in reply:
            if reply.get("poisoned"):
                side.close()
            raise _reported(reply)
        return reply

    def _check_memory(self, doing: str) -> None:
        """CandidateFailedError where the candidate has left the judge no GPU memory."""
        if self.memory is not None and self.memory.is_suspect():
            self._blame(doing)
            self.memory.accuses = False  # other processes fill the device, or a trusted one does
            raise WorkerError("the GPU is nearly full, and the candidate's process that was ended held little of it")

    def _blame(self, doing: str, evidence: str = "") -> None:
        """End the candidate's process; CandidateFailedError where it held more than its part of a GPU's memory."""
        if self.memory is None or self.candidate_side.process is None:
            return
        held = self.memory.held(self.candidate_side.close)
        if held:
            raise CandidateFailedError(Verdict.OUT_OF_MEMORY, f"{held} ({doing})", evidence[-8000:])

    @property
    def candidates_dir(self) -> Path | None:
        """Directory of the candidates that the process was last made ready for."""
        return self._last[0]

    def listen(self) -> None:
        """Take in what the candidate has printed since its last answer."""
        if self.candidate_side.process is not None:
            self.candidate_side.process.listen()

    def candidate_cpu_s(self) -> float:
        """CPU seconds of the candidate's process and all that it started, so far."""
        process = self.candidate_side.process
        return 0.0 if process is None else process.cpu_s()

    def timed_pids(self) -> tuple[list[int], list[int]]:
        """Process ids of the trusted worker's tree and of the candidate's, which are timed on a CPU."""
        trusted, candidate = self.trusted_side.process, self.candidate_side.process
        return (trusted.members() if trusted else []), (candidate.members() if candidate else [])

    def settle(self) -> float:
        """Wait for processes that the candidate has started, if any, to rest; seconds waited. CPU only.

        On CUDA the whole tree stands still while the baseline is timed, so that nothing need be waited for.
        """
        side = self.candidate_side
        if kind_of(self.device) != "cpu" or side.process is None or side.process.processes() <= side.processes:
            return 0.0
        return settle(side.process.cpu_s)

    def pids(self) -> list[int]:
        """Process ids of what is running."""
        processes = (self.trusted_side.process, self.runner_side.process, self.candidate_side.process,
                     self.spare.process)
        return [process.pid for process in processes if process is not None]

    def close(self) -> None:
        """End both processes, and the spare one, and give the arenas back."""
        for side in (self.trusted_side, self.runner_side, self.candidate_side):
            side.close()
        self.spare.close()
        if self.builds is not None:
            self.builds.close()
        arenas, self._arenas, self._runner_arenas = (*self._arenas, *self._runner_arenas), [], []
        for fd in arenas:
            os.close(fd)

    def _start_candidate(self, directory: Path | None) -> None:
        limit = self.settings.memory_limit_bytes or default_limit_bytes()
        process = self.spare.take() if self.builds is None else self.builds.process_for(
            self.candidate_side.loaded, self.spare.take, lambda folder: self._new(self.candidate_side, folder))
        process.limit_memory(limit)
        if self.memory is not None:
            self.memory.note()
        self._start(self.candidate_side, {"candidates": None if directory is None else str(directory),
                                          "allow_passthrough": self.settings.allow_passthrough,
                                          "memory_limit_bytes": limit}, process)

    def _start(self, side: Side, hello: dict[str, Any], process: WorkerProcess | None = None) -> None:
        if side.process is None:
            side.process = process or self._new(side)
            side.process.post({"do": "hello", **hello})
            side.greeted = False

    def _new(self, side: Side, builds: Path | None = None) -> WorkerProcess:
        if side is self.candidate_side and self.builds is not None:
            builds = builds or self.builds.fresh()
        named = {name: os.environ[name] for name in self.settings.env if name in os.environ}
        return WorkerProcess(side.role, self._device_of(side), self._arenas_of(side), self._sandbox(), self.hidden,
                             self.settings.disk_limit_bytes, named, builds,
                             hear=self.said.add if side is self.candidate_side else None)

    def _timeout_s(self, request: Message) -> float:
        """Longest that a request to the candidate may take."""
        return self.settings.longest_build_s if request["do"] in BUILDING else self.settings.timeout_s

    def _device_of(self, side: Side) -> str:
        """Where a side works."""
        del side
        return self.device

    def _arenas_of(self, side: Side) -> list[int]:
        """Descriptors of the arenas that a side sees."""
        if side is self.runner_side:
            return self._runner_arenas
        return [*self._arenas, *self._runner_arenas] if side is self.trusted_side else self._arenas

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
        if side is self.candidate_side:
            side.processes = side.process.processes()
        if side is self.candidate_side and self.keeps_spare:
            self.spare.prepare()


def _reported(reply: Message) -> CandidateFailedError:
    known = {str(verdict): verdict for verdict in _REPORTED}
    verdict = known.get(str(reply["verdict"]))
    if verdict is None:
        return CandidateFailedError(Verdict.NO_RESULT, "the process gave a verdict that is not its to give", "")
    return CandidateFailedError(verdict, str(reply.get("message", ""))[:1000], str(reply.get("evidence", ""))[-8000:])
