"""The plot of error ratios: how far each operator's outputs are from the limit."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastkernels.report import svg
from fastkernels.report.formats import digits, plural
from fastkernels.results import ScenarioResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PER_DECADE = 12
"""Bins of the histogram in a decade."""
LOWEST, HIGHEST = -6, 6
"""Decades shown at most; what lies beyond stands at the edge."""
_WIDTH, _LEFT, _PLOT, _HEAD, _ROW = 960, 190, 520, 58, 30
_EDGE = 34
"""Width of the columns beside the axis, for exact results and for infinite or undefined ratios."""


@dataclass(frozen=True)
class ErrorRow:
    """The error ratios of one operator."""

    op: str
    """Operator."""
    passed: dict[int, int]
    """Passing scenarios by bin; bin b covers 10**(b / PER_DECADE) up to the next."""
    failed: dict[int, int]
    """Failing scenarios by bin."""
    zero: int
    """Scenarios without any error."""
    undefined: tuple[int, int]
    """Scenarios whose ratio is infinite, and is NaN."""
    largest: float
    """Largest ratio; NaN where one is NaN."""


def error_rows(results: Iterable[ScenarioResult]) -> list[ErrorRow]:
    """One row for each operator with numbers, in the order of the results."""
    by_op: dict[str, list[ScenarioResult]] = {}
    for result in results:
        if result.correctness:
            by_op.setdefault(result.op, []).append(result)
    return [_row(op, group) for op, group in by_op.items()]


def draw(results: Sequence[ScenarioResult]) -> str | None:
    """The plot as SVG; None where no scenario got as far as numbers."""
    rows = error_rows(results)
    if not rows:
        return None
    low, high = _span(rows)
    height = _HEAD + _ROW * len(rows) + 48
    with svg.drawing("errors"):
        figure = svg.new_figure(_WIDTH, height)
        svg.write(figure, 16, 22, "Largest error ratio of each scenario, by operator", weight="bold", fontsize=13)
        axes = svg.new_axes(figure, _LEFT, _HEAD, _PLOT, _ROW * len(rows))
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows), 0)
        axes.spines["left"].set_visible(False)
        svg.set_ticks(axes, "x", {float(k): f"{10.0**k:g}" for k in range(low, high + 1)})
        svg.set_ticks(axes, "y", {}, grid=False)
        axes.plot([0, 0], [0, len(rows)], color=svg.colour("ink"), linewidth=1.2)
        _draw_rows(figure, axes, rows)
        _draw_captions(figure, low, high, height)
        return svg.render(figure, "Error ratios by operator; at most 1 is right")


def _row(op: str, group: Sequence[ScenarioResult]) -> ErrorRow:
    passed: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    special: Counter[str] = Counter()
    ratios = [(result.correctness.max_error_ratio, result.verdict.correct) for result in group if result.correctness]
    for value, correct in ratios:
        if value > 0 and math.isfinite(value):
            decade = min(max(math.log10(value), LOWEST), HIGHEST - 1 / PER_DECADE)
            (passed if correct else failed)[math.floor(decade * PER_DECADE)] += 1
        else:
            special["nan" if math.isnan(value) else "inf" if value > 0 else "zero"] += 1
    largest = math.nan if special["nan"] else max(value for value, _ in ratios)
    return ErrorRow(op, dict(passed), dict(failed), special["zero"], (special["inf"], special["nan"]), largest)


def _span(rows: Sequence[ErrorRow]) -> tuple[int, int]:
    """First and last decade of the axis; the limit 1 is always within."""
    bins = [b for row in rows for b in (*row.passed, *row.failed)]
    low = math.floor(min(bins, default=0) / PER_DECADE)
    high = math.ceil((max(bins, default=0) + 1) / PER_DECADE)
    return max(LOWEST, min(low, -2)), min(HIGHEST, max(high, 1))


def _draw_rows(figure: "Figure", axes: "Axes", rows: Sequence[ErrorRow]) -> None:
    from matplotlib.collections import PolyCollection

    for counts, tone in (("passed", "candidate"), ("failed", "bad")):
        bars = [_bar(b, i + 1, count / max(*row.passed.values(), *row.failed.values(), 1, 1))
                for i, row in enumerate(rows) for b, count in sorted(getattr(row, counts).items())]
        if bars:
            axes.add_collection(PolyCollection(bars, facecolor=svg.colour(tone), edgecolor="none"))
    marks = [((b + 0.5) / PER_DECADE, i + 0.2) for i, row in enumerate(rows) for b in sorted(row.failed)]
    if marks:
        axes.plot(*zip(*marks, strict=True), linestyle="none", marker="x", markersize=5, markeredgewidth=1.4,
                  color=svg.colour("bad"), clip_on=False)
    for i, row in enumerate(rows):
        y = _HEAD + _ROW * (i + 1) - 8
        svg.write(figure, 16, y, row.op)
        tone = "ink" if row.largest <= 1 else "bad"
        svg.write(figure, _WIDTH - 16, y, f"largest {digits(row.largest)}", tone, ha="right")
        if row.zero:
            svg.write(figure, _LEFT - 8, y, f"{row.zero} at 0", "muted", ha="right", fontsize=svg.SMALL_PX)
        beyond = [f"{count} {name}" for count, name in zip(row.undefined, ("inf", "NaN"), strict=True) if count]
        if beyond:
            svg.write(figure, _LEFT + _PLOT + 8, y, f"{', '.join(beyond)}", "bad", weight="bold")


def _bar(b: int, floor: float, share: float) -> list[tuple[float, float]]:
    """Corners of a bin's bar; its height grows with the square root, so that few scenarios stay visible."""
    left, right, top = b / PER_DECADE, (b + 0.9) / PER_DECADE, floor - 0.08 - 0.74 * math.sqrt(share)
    return [(left, floor - 0.08), (left, top), (right, top), (right, floor - 0.08)]


def _draw_captions(figure: "Figure", low: int, high: int, height: int) -> None:
    limit = _LEFT + _PLOT * -low / (high - low)
    svg.write(figure, limit, _HEAD - 6, "limit 1", "ink", ha="center", fontsize=svg.SMALL_PX)
    svg.write(figure, limit - 34, _HEAD - 6, "← right", "muted", ha="right", fontsize=svg.SMALL_PX)
    svg.write(figure, limit + 34, _HEAD - 6, "wrong →", "bad", fontsize=svg.SMALL_PX)
    svg.write(figure, _LEFT + _PLOT / 2, height - 10, "max |candidate - oracle| / (atol + rtol |oracle|); bars: "
              "scenarios, heights by square root within a row", "muted", ha="center", fontsize=svg.SMALL_PX)


def caption(results: Sequence[ScenarioResult]) -> str:
    """What the plot counts, in words."""
    counted = sum(result.correctness is not None for result in results)
    return f"{plural(counted, 'scenario')} with numbers; {plural(len(results) - counted, 'scenario')} without."
