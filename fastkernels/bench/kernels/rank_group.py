"""The processes that grade a scenario of several ranks: one candidate's process a rank, one trusted worker for all."""

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from fastkernels.bench.isolate.devices import device_of, kind_of
from fastkernels.bench.isolate.memory import default_limit_bytes
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sandbox import Sandbox, among_ranks
from fastkernels.bench.kernels.deadline import Deadline
from fastkernels.bench.kernels.said import Said
from fastkernels.bench.kernels.settings import GraderSettings, too_few_gpus
from fastkernels.bench.kernels.spare import START_TIMEOUT_S
from fastkernels.bench.kernels.workers import CandidateFailedError, Side, Workers
from fastkernels.errors import DeviceError, WorkerError
from fastkernels.results import Verdict

GRACE_S = 2.0
"""How long the other ranks may go on once one has failed: the rank that is to blame may fail after those that wait for
it; then all are ended."""

_TO_BLAME = (Verdict.CRASHED, Verdict.EXITED, Verdict.OUT_OF_MEMORY, Verdict.LIMIT_EXCEEDED)
"""Verdicts that say more than that a peer was lost."""


@dataclass
class RankWorkers(Workers):
    """One rank's candidate's process; its requests to the trusted worker name the rank."""

    times: ClassVar[bool] = False
    keeps_spare: ClassVar[bool] = False
    rank: int = 0
    all_arenas: list[int] = field(default_factory=list)
    """Arenas of all ranks, which the trusted worker holds."""

    def trusted(self, request: Message) -> Message:
        """Ask this rank's baseline."""
        return super().trusted({**request, "rank": self.rank})

    def candidate(self, request: Message) -> Message:
        """Ask this rank's candidate; failures name the rank."""
        try:
            return super().candidate(request)
        except CandidateFailedError as error:
            raise CandidateFailedError(error.verdict, f"rank {self.rank}: {error.message}", error.evidence) from error

    def _timeout_s(self, request: Message) -> float:
        joins = request["do"] in ("meet", "join")  # no candidate is imported by then
        return START_TIMEOUT_S if joins else super()._timeout_s(request)

    def _device_of(self, side: Side) -> str:
        return kind_of(self.device) if side is self.trusted_side else self.device

    def _arenas_of(self, side: Side) -> list[int]:
        return self.all_arenas if side is self.trusted_side else self._arenas

    def _sandbox(self) -> Sandbox:
        return among_ranks(super()._sandbox())


class RankGroup:
    """`size` ranks of one candidate, which speak to each other by torch.distributed; kept warm until `close`.

    On CUDA rank r has the GPU `cuda:r`.
    """

    def __init__(self, settings: GraderSettings, device: str, size: int, deadline: Deadline | None = None,
                 said: Said | None = None) -> None:
        """device: `cpu` or `cuda`; deadline: the grader's; said: gathers their output.

        DeviceError where there are fewer GPUs than ranks.
        """
        lacking = too_few_gpus(size, device)
        if lacking:
            raise DeviceError(lacking)
        self.size = size
        limit = settings.memory_limit_bytes or default_limit_bytes() // size
        settings = replace(settings, memory_limit_bytes=limit)
        trusted, arenas = Side("ranks"), list[int]()
        self.workers = [RankWorkers(settings, device_of(rank, device), trusted_side=trusted, rank=rank,
                                    all_arenas=arenas, deadline=deadline or Deadline(), said=said or Said())
                        for rank in range(size)]
        for workers in self.workers:
            arenas += workers.open_arenas()
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="fastkernels-rank")
        self._asked: list[Future[Message]] = []

    def ready(self, directory: Path | None, loaded: str) -> None:
        """Have all ranks run these candidates, joined in one group; WorkerError where they do not meet."""
        sides = [workers.candidate_side for workers in self.workers]
        if any(side.process is None or side.loaded != loaded for side in sides):
            self._close_candidates()
            for workers in self.workers:
                workers.ready(directory, loaded)
            try:  # before any candidate is imported
                port = self.workers[0].candidate({"do": "meet", "size": self.size})["port"]
                self.ask([{"do": "join", "rank": rank, "size": self.size, "port": port} for rank in range(self.size)])
            except CandidateFailedError as error:
                raise WorkerError(f"{self.size} ranks did not meet: {error.message}\n{error.evidence}") from error

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        """Ask every rank's candidate at once; CandidateFailedError of the rank that is to blame, all ended then."""
        self._asked = asked = [self._threads.submit(workers.candidate, request)
                               for workers, request in zip(self.workers, requests, strict=True)]
        wait(asked, return_when=FIRST_EXCEPTION)
        if not any(future.done() and future.exception() for future in asked):
            return [future.result() for future in asked]
        wait(asked, timeout=GRACE_S)
        failed = [future for future in asked if future.done() and future.exception()]
        self._kill_candidates()
        wait(asked)
        self._close_candidates()
        raise min(map(_failure, failed), key=lambda error: error.verdict not in _TO_BLAME)

    def close(self) -> None:
        """End all processes, also where an interrupt has left threads that wait for an answer."""
        if not all(future.done() for future in self._asked):
            self._kill_candidates()
        self._threads.shutdown()
        for workers in self.workers:
            workers.close()

    def _kill_candidates(self) -> None:
        """Killed, not closed: threads may still wait for an answer."""
        for workers in self.workers:
            if workers.candidate_side.process is not None:
                workers.candidate_side.process.kill()

    def _close_candidates(self) -> None:
        for workers in self.workers:
            workers.candidate_side.close()


def _failure(future: "Future[Message]") -> CandidateFailedError:
    """What a rank failed with; an error of the harness passes through."""
    error = future.exception()
    if isinstance(error, CandidateFailedError):
        return error
    assert error is not None
    raise error
