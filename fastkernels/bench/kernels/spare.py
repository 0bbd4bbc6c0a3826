"""The candidate's next process, started while one is at work: a crash or a new candidate then costs no start."""

from collections.abc import Callable
from contextlib import suppress

from fastkernels.bench.isolate.launch import forks
from fastkernels.bench.isolate.process import WorkerEndedError, WorkerProcess

START_TIMEOUT_S = 180.0
"""Longest that a worker may take to import torch and open its device."""


class Spare:
    """At most one process that has its device ready and knows no candidate; none where workers are not forked."""

    def __init__(self, start: Callable[[], WorkerProcess]) -> None:
        self._start = start
        self.process: WorkerProcess | None = None
        """Whoever takes it out of here closes it."""
        self._is_ready = False

    def prepare(self) -> None:
        """Start one where there is none; does not wait for it."""
        if self.process is None and forks():
            self.process, self._is_ready = self._start(), False
            self.process.post({"do": "ready"})

    def settle(self) -> None:
        """Wait until it is ready: nothing of its start runs beside what is timed. One that has ended is given up."""
        if self.process is not None and not self._is_ready:
            with suppress(WorkerEndedError):
                self._is_ready = self.process.answer(START_TIMEOUT_S) == {}
        if self.process is not None and not (self._is_ready and self.process.is_running()):
            self.close()

    def take(self) -> WorkerProcess:
        """The process, or a new one where there is none."""
        self.settle()
        process, self.process = self.process, None
        return process or self._start()

    def close(self) -> None:
        """End it, if there is one."""
        process, self.process = self.process, None
        if process is not None:
            process.close()
