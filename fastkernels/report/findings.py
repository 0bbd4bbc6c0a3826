"""Failures, gathered by what was found: one entry for scenarios that fail in the same way."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastkernels.report.formats import digits, shorten
from fastkernels.results import ScenarioResult

MAX_FINDINGS = 100
"""Findings shown in full; the table of scenarios has the rest."""
MAX_EVIDENCE = 6000
"""Characters of evidence shown for a finding."""
MAX_MESSAGE = 1000
"""Characters of a message shown."""
_DRAW = re.compile(r"draw \S+")
_NUMBER = re.compile(r"-?\d[\d.e+-]*|\b(?:nan|inf)\b")


@dataclass(frozen=True)
class Finding:
    """Scenarios of one operator with the same verdict and, numbers aside, the same message."""

    first: ScenarioResult
    """The worst of them: the one with the largest error ratio."""
    message: str
    """Its message, cut where it is very long."""
    worst: str
    """Its worst element in words; empty where there is none."""
    evidence: str
    """Its evidence, cut where it is very long."""
    others: tuple[str, ...]
    """Addresses of the other scenarios."""


def findings(results: Iterable[ScenarioResult]) -> list[Finding]:
    """Every distinct failing finding, in the order of the results."""
    groups: dict[tuple[str, ...], list[ScenarioResult]] = {}
    for result in results:
        if not result.verdict.ok:
            kind = _NUMBER.sub("#", _DRAW.sub("draw", result.message))
            groups.setdefault((result.op, str(result.level), result.variant, result.verdict, kind), []).append(result)
    return [_finding(group) for group in groups.values()]


def _finding(group: Sequence[ScenarioResult]) -> Finding:
    first = max(group, key=lambda result: (_badness(result), result.shared_with is None))
    return Finding(first, shorten(first.message, MAX_MESSAGE), _worst(first), shorten(first.evidence, MAX_EVIDENCE),
                   tuple(result.id for result in group if result is not first))


def _badness(result: ScenarioResult) -> float:
    value = result.correctness.max_error_ratio if result.correctness else 0.0
    return math.inf if math.isnan(value) else value


def _worst(result: ScenarioResult) -> str:
    found = result.correctness
    if found is None or found.worst is None:
        return ""
    worst = found.worst
    index = ", ".join(map(str, worst.index))
    return (f"{worst.tensor}[{index}]: expected {digits(worst.expected)}, got {digits(worst.got)}; error ratio "
            f"{digits(found.max_error_ratio)}, largest absolute error {digits(found.max_abs_error)}, draw {found.draw}")
