"""Lanes on a clock that only they move: what a comparison sees is decided by the test."""

import random
from collections.abc import Callable, Iterator


class Clock:
    """A supervisor's clock that stands still unless a lane works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeLane:
    """Calls of `seconds`, with noise; reports `reported` times that."""

    def __init__(self, clock: Clock, seconds: float, noise: float = 0.0, reported: float = 1.0, seed: int = 0,
                 name: str = "", log: list[str] | None = None, message_s: float = 0.001) -> None:
        self.clock, self.seconds, self.noise, self.reported = clock, seconds, noise, reported
        self.name, self.log, self.message_s = name, [] if log is None else log, message_s
        self.random = random.Random(seed)
        self.measured: list[int] = []
        self.drift: Callable[[float], float] = lambda now: 1.0
        self.not_captured: str | None = None
        self.launch_s = 0.0  # what a call that is not captured takes besides
        self.gap_s = 0.0  # what one that is captured does
        self.settle = 0  # calls at the head of each `measure` that are not reported

    def _calls(self, calls: int) -> Iterator[float]:
        self.clock.now += self.message_s
        for _ in range(calls):
            took = self.seconds * self.drift(self.clock.now) * (1 + self.noise * self.random.random())
            self.clock.now += took
            yield took

    def measure(self, calls: int) -> list[float]:
        self.log.append(self.name)
        self.measured.append(calls)
        list(self._calls(self.settle))
        return [took * self.reported for took in self._calls(calls)]

    def eager(self, calls: int) -> list[float]:
        return [took * self.reported for took in self._calls(calls)]

    def replay(self, calls: int) -> str | None:
        list(self._calls(calls))
        self.clock.now += calls * (self.launch_s if self.not_captured else self.gap_s)
        return self.not_captured
