"""The speedups of one operator as a table: a row for each model and TP degree, a column for each token count."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastkernels.report.formats import digits, ratio, seconds
from fastkernels.report.palette import heat_class
from fastkernels.results import LeftOut, ScenarioResult

_ADDRESS = re.compile(r"(?P<op>[^\[]+)\[(?P<model>.+)-tp(?P<tp>\d+)-s(?P<tokens>\d+)(?:-(?P<variant>.+))?\]")


@dataclass(frozen=True)
class Cell:
    """One scenario of a heat map."""

    text: str
    """Speedup, verdict, or a dash."""
    style: str
    """CSS classes: the colour, and `sure` where the interval leaves out 1."""
    title: str
    """What is shown for the cell under the pointer or in focus."""
    verdict: str = ""
    """The verdict's name, where the scenario failed."""


@dataclass(frozen=True)
class HeatMap:
    """One operator in one use."""

    op: str
    """Operator."""
    level: int
    """1 to 4."""
    variant: str
    """Use of the operator in the model; may be empty."""
    tokens: tuple[int, ...]
    """Token counts of the columns, rising."""
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    """`model tpN` and a cell for each column."""
    speedup: float | None
    """Geometric mean over the timed scenarios; None where none was timed."""
    failed: int
    """Scenarios that did not pass."""
    self_test: bool
    """True where every scenario is a self-test."""

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.rows) * len(self.tokens)


def heat_maps(results: Iterable[ScenarioResult], left_out: Sequence[LeftOut] = ()) -> list[HeatMap]:
    """One heat map for each operator, level and variant, in the order of the results."""
    groups: dict[tuple[str, int, str], list[ScenarioResult]] = {}
    for result in results:
        groups.setdefault((result.op, result.level, result.variant), []).append(result)
    reasons = _reasons(left_out)
    return [_heat_map(key, groups[key], reasons) for key in _together(groups)]


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean of the positive, finite values; None where there is none."""
    logs = [math.log(value) for value in values if 0 < value < math.inf]
    return math.exp(sum(logs) / len(logs)) if logs else None


def speedup_of(results: Iterable[ScenarioResult]) -> float | None:
    """Geometric mean of the speedups of the timed scenarios."""
    return geometric_mean(result.timing.speedup for result in results if result.timing)


def describe(result: ScenarioResult) -> str:
    """One line on a scenario: what was measured, or what is wrong."""
    parts = [str(result.verdict) if not result.verdict.ok else "self-test passed" if result.self_test else "passed"]
    if result.timing:
        t = result.timing
        parts.append(f"{ratio(t.speedup)}x [{ratio(t.speedup_low)}, {ratio(t.speedup_high)}], baseline "
                     f"{seconds(t.baseline_s)}, candidate {seconds(t.candidate_s)}")
    if result.noise:
        parts.append(f"noisy: {result.noise.reason}")
    if result.correctness:
        parts.append(f"error ratio {digits(result.correctness.max_error_ratio)}")
    if result.message:
        parts.append(result.headline[:200])
    if result.shared_with:
        parts.append(f"graded as {result.shared_with}")
    return f"{result.model} tp{result.tp}, {result.tokens} tokens: {'; '.join(parts)}"


def _together(groups: Iterable[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    """Keys with the variants of an operator beside each other, operators as they first came."""
    keys = list(groups)
    first = {key[:2]: i for i, key in reversed(list(enumerate(keys)))}
    return sorted(keys, key=lambda key: first[key[:2]])


def _heat_map(
    key: tuple[str, int, str], group: Sequence[ScenarioResult], reasons: dict[tuple[str, ...], str]
) -> HeatMap:
    op, level, variant = key
    tokens = tuple(sorted({result.tokens for result in group}))
    rows: dict[tuple[str, int], dict[int, ScenarioResult]] = {}
    for result in group:
        row = rows.setdefault((result.model, result.tp), {})
        there = row.get(result.tokens)
        if there is None or there.verdict.ok:  # addresses are unique; if two did meet, a failure is what stays
            row[result.tokens] = result
    order = {model: i for i, model in reversed(list(enumerate(result.model for result in group)))}
    lines = [(f"{model} tp{tp}", tuple(_cell(row.get(count), reasons.get((op, variant, model, str(tp), str(count))))
                                       for count in tokens))
             for (model, tp), row in sorted(rows.items(), key=lambda item: (order[item[0][0]], item[0][1]))]
    return HeatMap(op, level, variant, tokens, tuple(lines), speedup_of(group),
                   sum(not result.verdict.ok for result in group), all(result.self_test for result in group))


def _cell(result: ScenarioResult | None, reason: str | None) -> Cell:
    if result is None:
        return Cell("-", "none", f"left out: {reason}" if reason else "no such scenario in this run")
    timing = result.timing
    text = ratio(timing.speedup) if timing else ""
    if not result.verdict.ok:
        return Cell(text, "fail", describe(result), str(result.verdict))
    if timing is None:
        return Cell("noisy", "h0 noisy", describe(result)) if result.noise else Cell("pass", "h0", describe(result))
    sure = timing.speedup_low > 1 or timing.speedup_high < 1
    return Cell(text, heat_class(timing.speedup) + (" sure" if sure else ""), describe(result))


def _reasons(left_out: Iterable[LeftOut]) -> dict[tuple[str, ...], str]:
    """Reasons by operator, variant, model, TP and tokens; an address of another form stays out."""
    matches = ((_ADDRESS.fullmatch(item.id), item.reason) for item in left_out)
    return {(m["op"], m["variant"] or "", m["model"], m["tp"], m["tokens"]): reason for m, reason in matches if m}
