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
        self.waited_s, self.given, self.slower = 0.0, 0, 1.0  # as the kernel counts it, and known work
        self.touching = 0  # most calls at the head of each `measure` that are not reported, at most half as many

    def _calls(self, calls: int) -> Iterator[float]:
        self.clock.now += self.message_s
        for _ in range(calls):
            took = self.seconds * self.drift(self.clock.now) * (1 + self.noise * self.random.random())
            self.clock.now += took
            yield took

    def measure(self, calls: int) -> list[float]:
        self.log.append(self.name)
        self.measured.append(calls)
        list(self._calls(min(self.touching, calls // 2)))
        return [took * self.reported for took in self._calls(calls)]

    def eager(self, calls: int) -> list[float]:
        return [took * self.reported for took in self._calls(calls)]

    def replay(self, calls: int) -> None:
        list(self._calls(calls))

    def threads(self) -> dict[int, tuple[float, int]]:
        return {7: (self.waited_s, self.given)}

    def slowdown(self) -> float:
        return self.slower


class BusyLane(FakeLane):
    """A lane on a busy machine: other processes take its core for some milliseconds, and messages wait for one."""

    def __init__(self, clock: Clock, seconds: float, *, runs_s: float = 0.004, stolen_s: float = 0.004,
                 late: float = 0.3, late_s: float = 0.008, reported: float = 1.0, seed: int = 0) -> None:
        super().__init__(clock, seconds, noise=0.1, reported=reported, seed=seed, message_s=2e-4)
        self.runs_s, self.stolen_s, self.late, self.late_s = runs_s, stolen_s, late, late_s
        self.left_s = self.random.expovariate(1 / runs_s)  # until it is taken off its core

    def _calls(self, calls: int) -> Iterator[float]:
        self.clock.now += self.message_s
        if self.random.random() < self.late:
            self.clock.now += self.late_s * self.random.random()
        for _ in range(calls):
            work = self.seconds * (1 + self.noise * self.random.random())
            took = work
            while work > self.left_s:
                work -= self.left_s
                self.left_s = self.random.expovariate(1 / self.runs_s)
                took += self.random.expovariate(1 / self.stolen_s)
            self.left_s -= work
            self.clock.now += took
            yield took
