"""What other load did on a CPU while a scenario was timed and its times were checked."""

import os
import time
from dataclasses import dataclass

from fastkernels.bench.isolate import process_tree
from fastkernels.bench.kernels.workers import Workers
from fastkernels.bench.timing.load import OthersMeter, Threads, read_threads, waits_between
from fastkernels.results import Noise

MOST_WAITED = 0.02
"""Part of the time that the timed processes may have waited for a core: beyond, clocks that disagree accuse nobody."""

BUSY_CORES = 0.1
"""Cores that others must have taken for a candidate's own waiting to be their doing: it could wait for itself."""


@dataclass(frozen=True)
class Seen:
    """What was seen of other load."""

    busy_cores: float | None
    """Cores that other processes took on average; None where nothing tells."""
    trusted_waited: float
    """Time that this process's threads and the trusted worker's waited for a core, as a part of what went by."""
    candidate_waited: float
    """The same of the candidate's processes."""

    @property
    def disturbed(self) -> bool:
        """Whether other load may have made clocks disagree.

        That a candidate waits excuses it only where others are at work: it could have its threads wait for each other.
        """
        others = self.busy_cores is not None and self.busy_cores > BUSY_CORES
        return self.trusted_waited > MOST_WAITED or (others and self.candidate_waited > MOST_WAITED)

    def __str__(self) -> str:
        part = max(self.trusted_waited, self.candidate_waited)
        waited = f"the timed processes waited for a core {part:.0%} of the time"
        return waited if self.busy_cores is None else f"{waited}, others took {self.busy_cores:.1f} cores"


class Surroundings:
    """Looks at what has happened since it was made."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.trusted, self.candidate = workers.timed_pids()
        self._started = time.perf_counter()
        self._before = self._threads()
        self._others = OthersMeter(self._own_cpu_s)

    def look(self) -> Seen:
        """What was seen until now."""
        took_s = max(time.perf_counter() - self._started, 1e-9)
        shares = [waits_between(before, after).seconds / took_s
                  for before, after in zip(self._before, self._threads(), strict=True)]
        return Seen(self._others.cores(), *shares)

    def noise(self, why: str, rounds: int = 0, disturbed_rounds: int = 0) -> Noise:
        """Why there is no time, with what was seen."""
        seen = self.look()
        return Noise(f"{why}; {seen}", rounds, disturbed_rounds, seen.busy_cores)

    def _threads(self) -> tuple[Threads, Threads]:
        return read_threads([os.getpid(), *self.trusted]), read_threads(self.candidate)

    def _own_cpu_s(self) -> float:
        """CPU seconds of all that is no other load; what a candidate starts is its own."""
        trusted_s = sum(map(process_tree.own_cpu_s, self.trusted))
        return time.process_time() + trusted_s + self._workers.candidate_cpu_s()
