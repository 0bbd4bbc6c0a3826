"""Whether the candidate's processes rest while only the baseline is at work on a CPU: no hog, no work done ahead."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastkernels.bench.isolate.protocol import Message
from fastkernels.results import Verdict

ONE_IN = 3
"""Of the baseline's requests one in so many is watched, drawn anew for each: reading takes 1 to 8 ms."""

LEAST_S = 0.06
"""Time that is watched in any case, where there are requests of so much: three times MOST_S."""

MOST_SHARE = 0.05
"""Part of a core that the candidate's processes may use meanwhile."""

MOST_S = 0.02
"""On top of that: the kernel books a running thread's time at its next tick, and thread pools spin after a call."""


@dataclass
class IdleWatch:
    """Sums the CPU time that the candidate's processes use during requests to the trusted worker."""

    cpu_s: Callable[[], float]
    """CPU seconds of the candidate's process and all that it started, so far."""
    ask: Callable[[Message], Message]
    """Asks the trusted worker."""
    used_s: float = 0.0
    watched_s: float = 0.0

    def sometimes(self, request: Message) -> Message:
        """Ask, and watch one request in ONE_IN, and besides the first ones until LEAST_S."""
        watched = self.watched_s < LEAST_S or secrets.randbelow(ONE_IN) == 0
        return self.always(request) if watched else self.ask(request)

    def always(self, request: Message) -> Message:
        """Ask and watch."""
        before_s, started = self.cpu_s(), time.perf_counter()
        reply = self.ask(request)
        self.watched_s += time.perf_counter() - started
        self.used_s += self.cpu_s() - before_s
        return reply

    def finding(self) -> tuple[Verdict, str] | None:
        """TIMING_TAMPERED where more was used than a process at rest uses."""
        if self.used_s <= MOST_S + MOST_SHARE * self.watched_s:
            return None
        return Verdict.TIMING_TAMPERED, (f"the candidate's processes used {self.used_s * 1e3:.0f} ms of CPU time in "
                                         f"{self.watched_s * 1e3:.0f} ms in which only the baseline was at work")
