"""The plot of samples: how the timed calls of baseline and candidate spread, for a few shapes of each operator."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from fastkernels.report import svg
from fastkernels.report.formats import ratio, seconds
from fastkernels.results import ScenarioResult, Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_OPERATORS = 14
"""Operators that one plot shows."""
MAX_POINTS = 40
"""Samples drawn of each side; more are thinned evenly in their order, ends kept."""
_WIDTH, _LEFT, _PLOT, _HEAD, _ROW = 960, 300, 430, 62, 46
_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_FINE_TICKS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4)
"""For an axis of less than an octave."""


@dataclass(frozen=True)
class Spread:
    """The samples of one side, relative to the baseline's median, in log2."""

    box: tuple[float, float, float]
    """Lower quartile, median, upper quartile."""
    points: tuple[float, ...]
    """Samples, thinned, rising."""


@dataclass(frozen=True)
class SampleRow:
    """One shape."""

    op: str
    """Operator."""
    place: str
    """Why it was chosen: `median` or `slowest` of the operator's shapes by speedup, or `only`."""
    label: str
    """Model, TP degree, tokens and variant."""
    timing: Timing
    """Its times."""
    baseline: Spread
    """The baseline's samples."""
    candidate: Spread
    """The candidate's samples."""


def sample_rows(results: Iterable[ScenarioResult]) -> list[SampleRow]:
    """For each operator the shape with the median speedup and the one with the least."""
    by_op: dict[str, dict[str, ScenarioResult]] = {}
    for result in results:
        t = result.timing
        if t and _usable(t.baseline_samples_s) and _usable(t.candidate_samples_s):
            by_op.setdefault(result.op, {}).setdefault(result.shape_key, result)
    rows = []
    for shapes in list(by_op.values())[:MAX_OPERATORS]:
        ranked = sorted(shapes.values(), key=lambda r: (r.timing.speedup if r.timing else 0.0, r.id))
        chosen = {"only": ranked[0]} if len(ranked) == 1 else {"median": ranked[len(ranked) // 2], "slowest": ranked[0]}
        rows += [_row(place, result, result.timing) for place, result in chosen.items() if result.timing]
    return rows


def draw(results: Sequence[ScenarioResult]) -> str | None:
    """The plot as SVG; None where no samples were kept."""
    rows = sample_rows(results)
    if not rows:
        return None
    height = _HEAD + _ROW * len(rows) + 46
    with svg.drawing("samples"):
        figure = svg.new_figure(_WIDTH, height)
        svg.write(figure, 16, 22, "Timed calls: the shapes with the median and the least speedup of each operator",
                  weight="bold", fontsize=13)
        axes = svg.new_axes(figure, _LEFT, _HEAD, _PLOT, _ROW * len(rows))
        low, high = _span(rows)
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows), 0)
        axes.spines["left"].set_visible(False)
        ticks = _TICKS if high - low > 1 else _FINE_TICKS
        svg.set_ticks(axes, "x", {math.log2(x): f"{x:g}" for x in ticks if low <= math.log2(x) <= high})
        svg.set_ticks(axes, "y", {}, grid=False)
        axes.plot([0, 0], [0, len(rows)], color=svg.colour("axis"), linewidth=1)
        for tone, offset in (("baseline", 0.3), ("candidate", 0.68)):
            _draw_side(axes, [getattr(row, tone) for row in rows], tone, offset, (low, high))
        _label_rows(figure, rows)
        svg.write(figure, _LEFT + _PLOT / 2, height - 12, "time of a call over the baseline's median; box: quartiles "
                  "and median; left is faster", "muted", ha="center", fontsize=svg.SMALL_PX)
        return svg.render(figure, "Timed calls of baseline and candidate")


def _row(place: str, result: ScenarioResult, timing: Timing) -> SampleRow:
    label = f"{result.model} tp{result.tp}, {result.tokens} tok" + (f", {result.variant}" if result.variant else "")
    unit = median(_usable(timing.baseline_samples_s))
    return SampleRow(result.op, place, label, timing, _spread(timing.baseline_samples_s, unit),
                     _spread(timing.candidate_samples_s, unit))


def _usable(samples_s: Iterable[float]) -> list[float]:
    return [value for value in samples_s if 0 < value < math.inf]


def _spread(samples_s: Sequence[float], unit_s: float) -> Spread:
    logs = sorted(math.log2(value / unit_s) for value in _usable(samples_s))
    low, middle, high = quantiles(logs, n=4, method="inclusive") if len(logs) > 1 else (logs[0],) * 3
    return Spread((low, middle, high), thinned(logs))


def thinned(ordered: Sequence[float]) -> tuple[float, ...]:
    """At most MAX_POINTS of the values, evenly by rank, first and last among them."""
    if len(ordered) <= MAX_POINTS:
        return tuple(ordered)
    step = (len(ordered) - 1) / (MAX_POINTS - 1)
    return tuple(ordered[round(i * step)] for i in range(MAX_POINTS))


def _span(rows: Sequence[SampleRow]) -> tuple[float, float]:
    """Limits that hold every box and most points, 0.1 to 10 at most; points beyond stand at the edge."""
    boxes = [value for row in rows for side in (row.baseline, row.candidate)
             for value in (*side.box, *side.points[2:-2])]
    widest = math.log2(10)
    return max(-widest, min(*boxes, -0.2) - 0.1), min(widest, max(*boxes, 0.2) + 0.1)


def _draw_side(
    axes: "Axes", spreads: Sequence[Spread], tone: str, offset: float, limits: tuple[float, float]
) -> None:
    from matplotlib.collections import PolyCollection

    boxes, xs, ys = [], [], []
    low, high = limits
    for i, spread in enumerate(spreads):
        y = i + offset
        left, _, right = (min(max(value, low), high) for value in spread.box)
        boxes.append([(left, y - 0.13), (right, y - 0.13), (right, y + 0.13), (left, y + 0.13)])
        xs += [min(max(x, low), high) for x in spread.points]
        ys += [y] * len(spread.points)
    colour = svg.colour(tone)
    axes.add_collection(PolyCollection(boxes, facecolor=colour, alpha=0.28, edgecolor="none"))
    axes.plot(xs, ys, linestyle="none", marker="o" if tone == "baseline" else "^", markersize=3.6, alpha=0.55,
              markeredgewidth=0, color=colour, clip_on=False)
    for i, spread in enumerate(spreads):
        axes.plot([spread.box[1]] * 2, [i + offset - 0.17, i + offset + 0.17], color=colour, linewidth=2.4)


def _label_rows(figure: "Figure", rows: Sequence[SampleRow]) -> None:
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches() * 72
    last = ""
    for i, row in enumerate(rows):
        y = _HEAD + _ROW * i
        if row.op != last:
            figure.add_artist(Line2D([16 / width, 1 - 16 / width], [1 - y / height] * 2, linewidth=1,
                                     color=svg.colour("grid")))
        svg.write(figure, 16, y + 19, row.op if row.op != last else "", weight="bold")
        svg.write(figure, _LEFT - 14, y + 19, row.place, "muted", ha="right")
        svg.write(figure, _LEFT - 14, y + 35, row.label, "ink", ha="right", fontsize=svg.SMALL_PX)
        t = row.timing
        svg.write(figure, _WIDTH - 16, y + 19, f"{seconds(t.baseline_s)} → {seconds(t.candidate_s)}", "muted",
                  ha="right", fontsize=svg.SMALL_PX)
        svg.write(figure, _WIDTH - 16, y + 35, f"{ratio(t.speedup)}x [{ratio(t.speedup_low)}, "
                  f"{ratio(t.speedup_high)}]", ha="right", weight="bold")
        last = row.op
    for x, name in ((_LEFT, "baseline"), (_LEFT + 90, "candidate")):
        figure.add_artist(Line2D([(x + 6) / width], [1 - 44 / height], linestyle="none", markersize=6,
                                 marker="o" if name == "baseline" else "^", color=svg.colour(name), markeredgewidth=0))
        svg.write(figure, x + 15, 48, name, "muted")
