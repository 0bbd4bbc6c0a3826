"""Which failures pytest words: one for each finding, with the addresses of the others that are alike."""

import re
from collections.abc import Iterable, Sequence

import pytest

from fastkernels.results import ScenarioResult
from pytest_fastkernels.record import from_wire
from pytest_fastkernels.xdist_bridge import KEY

SHOWN_FAILURES = 20
"""Findings that pytest words in full without -v; the table and the results file hold all."""
NAMED = 6
"""Scenarios with the same finding that are named."""

_PARTICULAR = re.compile(r"draw [^\s,()]+|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\bnan\b|\binf\b")
"""What differs between two messages of one finding: numbers, draws."""


class Findings:
    """The failures of one run, brought together by what was found."""

    def __init__(self, failed: Sequence[pytest.TestReport]) -> None:
        """failed: reports of the run's own scenarios, in the order in which they are shown."""
        self._groups: dict[object, list[pytest.TestReport]] = {}
        for report in failed:
            self._groups.setdefault(_finding(results_of(report)) or report.nodeid, []).append(report)
        self.total = len(failed)

    @property
    def shown(self) -> set[str]:
        """Node ids of the failures that are worded, and told of the others that are alike."""
        return {group[0].nodeid for group in list(self._groups.values())[:SHOWN_FAILURES]}

    def tell_of_others(self) -> None:
        """Add to each failure that is worded a section with the addresses of those that are alike."""
        for first, *others in list(self._groups.values())[:SHOWN_FAILURES]:
            if others:
                ids = ", ".join(report.nodeid for report in others[:NAMED])
                more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
                noun = "scenario" if len(others) == 1 else "scenarios"
                first.sections.append((f"the same finding in {len(others)} more {noun} (-v words each)", ids + more))

    @property
    def note(self) -> str:
        """What is not worded; empty where everything is."""
        alike = sum(len(group) - 1 for group in list(self._groups.values())[:SHOWN_FAILURES])
        beyond = self.total - alike - len(self.shown)
        parts = [f"{alike} alike with one that is shown"] * bool(alike) + [f"{beyond} others"] * bool(beyond)
        return f"{alike + beyond} of {self.total} failures not shown: {', '.join(parts)} (-v shows all, the results " \
               "file holds all)" if parts else ""


def results_of(report: pytest.TestReport) -> list[ScenarioResult]:
    """The results that a report carries."""
    return from_wire(getattr(report, KEY, ()))


def _finding(results: Iterable[ScenarioResult]) -> tuple[str, ...]:
    """Equal for failures that are alike but for numbers; what says how far off an element is, is a number."""
    return tuple(f"{result.op} {result.verdict} {result.candidate_path} {_PARTICULAR.sub('#', result.message)}"
                 f" {sorted(name for name, gate in result.gates.items() if gate.failed)}" for result in results)
