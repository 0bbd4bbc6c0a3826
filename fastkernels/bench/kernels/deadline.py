"""When whoever runs the grader ends the scenario that is being graded, such as a test runner's time limit per test."""

import time
from dataclasses import dataclass

LEAST_S = 1.0
"""Seconds that a candidate has for an answer at least, so that one that was just asked is not called hung."""


@dataclass
class Deadline:
    """Shared by a grader and its workers; none unless it is set."""

    at: float | None = None
    """time.monotonic() at which grading shall have ended; None for no limit."""
    limit: str = ""
    """How messages call it: `the test's limit of 5 s (pytest-timeout)`."""

    def set(self, seconds: float, limit: str) -> None:
        """Have grading end within `seconds` from now."""
        self.at, self.limit = time.monotonic() + seconds, limit

    def clear(self) -> None:
        """Let grading take its time."""
        self.at, self.limit = None, ""

    def check(self) -> None:
        """Raise TimeoutError where time is up: who is asked nothing is to blame for nothing."""
        if self.passed:
            raise TimeoutError(self.over)

    def cuts(self, timeout_s: float) -> float | None:
        """Seconds that are left for an answer that may take `timeout_s`; None where the deadline allows them all."""
        left_s = timeout_s if self.at is None else max(LEAST_S, self.at - time.monotonic())
        return left_s if left_s < timeout_s else None

    @property
    def passed(self) -> bool:
        """Whether time is up."""
        return self.at is not None and time.monotonic() >= self.at

    @property
    def over(self) -> str:
        """What is said where grading itself was too slow for it."""
        return f"grading took longer than {self.limit}"
