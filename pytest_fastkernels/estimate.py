"""How long a run will take: by what scenarios of its kind are known to cost, then by what those graded have cost."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from fastkernels.results import ScenarioResult

LONG_S = 600.0
"""A run that is expected to take longer says so at its start."""
KNOWN_S = {
    ("cpu", True): {1: 0.6, 2: 2.5, 3: 5.0, 4: 20.0}, ("cpu", False): {1: 0.25, 2: 1.2, 3: 2.5, 4: 12.0},
    ("cuda", True): {1: 0.5, 2: 1.5, 3: 4.0, 4: 15.0}, ("cuda", False): {1: 0.2, 2: 0.6, 3: 1.5, 4: 8.0},
}
"""Seconds that a shape of a level takes, by device and whether it is timed, on two cores of an AMD EPYC and one H200.

A first guess alone: after the first shapes their own cost takes its place."""
START_S = 3.0
"""Seconds that the processes take to start."""


class Estimate:
    """The cost of a run's shapes; scenarios of equal shape are graded once."""

    def __init__(self, scenarios: Iterable["Scenario"], device: str, timing: bool, processes: int) -> None:
        known = KNOWN_S[device, timing]
        self._known = {scenario.shape_key: known[scenario.level] for scenario in scenarios}
        self._timing = timing
        self._processes = max(1, processes)
        self._done: set[str] = set()
        self._first_s = self._last_s = self._started_s = self._first_known_s = 0.0

    @property
    def shapes(self) -> int:
        """Distinct shapes of the run."""
        return len(self._known)

    @property
    def total_s(self) -> float:
        """Seconds that the whole run is expected to take before anything is known of its candidates.

        Whoever times has the device alone, so that several processes share correctness alone.
        """
        return START_S + sum(self._known.values()) * (0.5 + 0.5 / self._processes if self._timing
                                                      else 1 / self._processes)

    def note(self, results: Iterable["ScenarioResult"], elapsed_s: float) -> None:
        """Take in what was graded until `elapsed_s` of the run."""
        new = [result for result in results if result.shape_key in self._known and not result.shared_with]
        if new and not self._done:
            self._first_s, self._started_s = elapsed_s, max(elapsed_s - START_S, new[0].wall_s)
            self._first_known_s = self._known[new[0].shape_key]
        self._done |= {result.shape_key for result in new}
        self._last_s = elapsed_s if new else self._last_s

    def left_s(self) -> float | None:
        """Seconds that the rest will take, by what the shapes after the first took; None before anything is done.

        The time between two results counts waits, and how many processes there are; the first one's holds the start.
        """
        if not self._done:
            return None
        rest_s = sum(cost for key, cost in self._known.items() if key not in self._done)
        known_s = sum(self._known[key] for key in self._done) - self._first_known_s
        if known_s > 0:
            return (self._last_s - self._first_s) / known_s * rest_s
        return self._started_s / self._first_known_s * rest_s


def long_run_lines(estimate: Estimate, ways: Sequence[str]) -> list[str]:
    """What a run says at its start that is expected to take over LONG_S; `ways` name what makes it shorter."""
    if estimate.total_s < LONG_S:
        return []
    return [f"fastkernels: {estimate.shapes} shapes take about {duration(estimate.total_s)} on this machine; "
            f"{', '.join(ways)} grade a part, --fk-resume goes on after Ctrl+C"]


def duration(seconds: float) -> str:
    """`40 s`, `25 min` or `3.5 h`: as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds)) if seconds < 10 else round(seconds / 5) * 5} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
