"""The roofline plot: what baseline and candidate reach of what the device can do."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastkernels.report import svg
from fastkernels.report.formats import percent, plural, rate
from fastkernels.results import ScenarioResult, Timing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_FLOPS = 2.0
"""An operator whose every call does fewer operations than this a byte is shown by bytes and share of the roofline."""
MAX_PANELS = 18
"""Operators that one plot shows."""
_COLUMNS = 3
_WIDTH, _HEAD, _ROW, _PANEL = 960, 56, 204, (240, 132)
_ASIDE = 3
"""Pixels by which the baseline's marks stand to the left and the candidate's to the right, so that both are seen."""
_GRID = 0.03
"""Points closer than this in decades, about two pixels, are drawn once."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Roof:
    """The device's peaks, read off the results' own least times."""

    bandwidth_bytes_s: float | None
    """Bytes per second; None where no scenario is held back by memory."""
    flops_s: tuple[float, ...]
    """Operations per second of each dtype that held a scenario back, rising."""

    def at(self, intensity: float, flops_s: float | None) -> float:
        """Most operations per second at that many operations a byte."""
        slope = self.bandwidth_bytes_s * intensity if self.bandwidth_bytes_s else math.inf
        return min(slope, flops_s or math.inf)


@dataclass(frozen=True)
class Panel:
    """The points of one operator, in log10 of both axes."""

    op: str
    """Operator."""
    shapes: int
    """Timed shapes."""
    has_flops: bool
    """True: operations a byte against operations per second; False: bytes against the share of the roofline."""
    baseline: tuple[Point, ...]
    """The baseline's points."""
    candidate: tuple[Point, ...]
    """The candidate's points."""


def roof_of(timings: Iterable[Timing]) -> Roof:
    """The peaks that give the timings' `roofline_s`."""
    usable = [t for t in timings if 0 < t.roofline_s < math.inf and t.bytes > 0]
    bandwidth = max((t.bytes / t.roofline_s for t in usable), default=0.0)
    on_slope = [t for t in usable if math.isclose(t.bytes / t.roofline_s, bandwidth, rel_tol=1e-6)]
    # One scenario alone may as well be held back by arithmetic, unless it does less than one operation a byte.
    known = any(t.flops < t.bytes for t in on_slope) or len({round(t.flops / t.bytes, 6) for t in on_slope}) > 1
    rates = {float(f"{t.flops / t.roofline_s:.3e}") for t in usable
             if t.flops and not (known and t.bytes >= bandwidth * t.roofline_s * (1 - 1e-6))}
    return Roof(bandwidth if known else None, tuple(sorted(rates)))


def panels(results: Iterable[ScenarioResult]) -> list[Panel]:
    """One panel for each operator with times, in the order of the results."""
    by_op: dict[str, dict[str, Timing]] = {}
    for result in results:
        t = result.timing
        if t and all(0 < value < math.inf for value in (t.bytes, t.roofline_s, t.baseline_s, t.candidate_s)):
            by_op.setdefault(result.op, {})[result.shape_key] = t
    return [_panel(op, list(shapes.values())) for op, shapes in by_op.items()]


def draw(results: Sequence[ScenarioResult], device: str) -> str | None:
    """The plot as SVG; None where nothing was timed."""
    found = panels(results)
    if not found:
        return None
    roof = roof_of(result.timing for result in results if result.timing)
    shown = sorted(found[:MAX_PANELS], key=lambda panel: not panel.has_flops)
    height = _HEAD + _ROW * math.ceil(len(shown) / _COLUMNS) + 6
    with svg.drawing("roofline"):
        figure = svg.new_figure(_WIDTH, height)
        svg.write(figure, 16, 22, _title(found, device), weight="bold", fontsize=13)
        _draw_legend(figure, roof)
        for i, panel in enumerate(shown):
            left = 66 + (i % _COLUMNS) * ((_WIDTH - 16) // _COLUMNS)
            _draw_panel(figure, panel, roof, _limits(panel, shown, roof), left, _HEAD + i // _COLUMNS * _ROW + 30)
        return svg.render(figure, "Roofline: operations per second or share of the roofline, by operator")


def _panel(op: str, timings: list[Timing]) -> Panel:
    has_flops = max(t.flops / t.bytes for t in timings) >= FEW_FLOPS
    return Panel(op, len(timings), has_flops, *(
        _thinned(_point(t, getattr(t, side), has_flops) for t in timings) for side in ("baseline_s", "candidate_s")))


def _point(t: Timing, seconds: float, has_flops: bool) -> Point:
    if has_flops:
        return math.log10(max(t.flops, 1) / t.bytes), math.log10(max(t.flops, 1) / seconds)
    return math.log10(t.bytes), math.log10(t.roofline_s / seconds)


def _thinned(points: Iterable[Point]) -> tuple[Point, ...]:
    cells = {(round(x / _GRID), round(y / _GRID)): (x, y) for x, y in points}
    return tuple(cells[key] for key in sorted(cells))


def _title(found: Sequence[Panel], device: str) -> str:
    more = f", {len(found) - MAX_PANELS} more operators not drawn" if len(found) > MAX_PANELS else ""
    return f"What the kernels reach of what {device or 'the device'} can do{more}"


Limits = tuple[float, float, float, float]


def _limits(panel: Panel, shown: Sequence[Panel], roof: Roof) -> Limits:
    """Left, right, bottom and top in decades, alike for all panels of the kind."""
    points = [point for other in shown if other.has_flops == panel.has_flops
              for point in (*other.baseline, *other.candidate)]
    xs, ys = zip(*points, strict=True)
    left, right = min(xs) - 0.25, max(xs) + 0.25
    top = max(*ys, math.log10(roof.at(10**right, max(roof.flops_s, default=None)))) if panel.has_flops else max(*ys, 0)
    return left, right, min(ys) - 0.2, top + 0.35


def _draw_legend(figure: "Figure", roof: Roof) -> None:
    """Name the markers and the roof, below the title."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches() * 72
    y = 1 - 40 / height
    peaks = [rate(roof.bandwidth_bytes_s, "B/s")] if roof.bandwidth_bytes_s else []
    peaks += [rate(value, "FLOP/s") for value in roof.flops_s]
    names = (("baseline", 84, "o"), ("candidate", 96, "^"), (f"roofline ({', '.join(peaks)})", 0, "-"))
    x = 22
    for name, step, marker in names:
        if marker == "-":
            figure.add_artist(Line2D([x / width, (x + 18) / width], [y, y], color=svg.colour("ink"), linewidth=1.2))
            x += 14
        else:
            figure.add_artist(Line2D([x / width], [y], **_marker(marker)))
        svg.write(figure, x + 9, 44, name, "muted")
        x += step


def _marker(kind: str) -> dict[str, Any]:
    tone = svg.colour("baseline" if kind == "o" else "candidate")
    return {"marker": kind, "linestyle": "none", "markersize": 4.6, "markeredgecolor": tone, "markeredgewidth": 0.9,
            "markerfacecolor": "none" if kind == "o" else tone}


def _draw_panel(figure: "Figure", panel: Panel, roof: Roof, limits: Limits, left: int, top: int) -> None:
    axes = svg.new_axes(figure, left, top, *_PANEL)
    axes.set_xlim(limits[0], limits[1])
    axes.set_ylim(limits[2], limits[3])
    for side, low, high in (("x", *limits[:2]), ("y", *limits[2:])):
        svg.set_ticks(axes, side, _decades(low, high, _label(side, panel.has_flops)))
    for line in _roof_lines(panel, roof, limits):
        axes.plot(*zip(*line, strict=True), color=svg.colour("ink"), linewidth=1.2)
    aside = _ASIDE * (limits[1] - limits[0]) / _PANEL[0]
    for points, kind, shift in ((panel.baseline, "o", -aside), (panel.candidate, "^", aside)):
        axes.plot([x + shift for x, _ in points], [y for _, y in points], **_marker(kind))
    svg.write(figure, left - 44, top - 8, f"{panel.op}", weight="bold")
    unit = "FLOP/s" if panel.has_flops else "share of the roofline"
    svg.write(figure, left + _PANEL[0], top - 8, f"{unit}, {plural(panel.shapes, 'shape')}", "muted", ha="right",
              fontsize=svg.SMALL_PX)
    svg.write(figure, left + _PANEL[0] / 2, top + _PANEL[1] + 29,
              "FLOP per byte" if panel.has_flops else "least bytes moved", "muted", ha="center", fontsize=svg.SMALL_PX)


def _roof_lines(panel: Panel, roof: Roof, limits: Limits) -> list[list[Point]]:
    left, right = limits[:2]
    if not panel.has_flops:
        return [[(left, 0.0), (right, 0.0)]]
    lines = []
    for flops_s in roof.flops_s or (None,):
        bends = [left, right]
        if roof.bandwidth_bytes_s and flops_s and left < math.log10(flops_s / roof.bandwidth_bytes_s) < right:
            bends.insert(1, math.log10(flops_s / roof.bandwidth_bytes_s))
        lines.append([(x, math.log10(roof.at(10**x, flops_s))) for x in bends])
    return [line for line in lines if all(math.isfinite(y) for _, y in line)]


def _label(side: str, has_flops: bool) -> str:
    if has_flops:
        return "number" if side == "x" else "rate"
    return "bytes" if side == "x" else "share"


def _decades(low: float, high: float, form: str) -> dict[float, str]:
    """Ticks at powers of ten, six at most."""
    step = max(1, math.ceil((math.floor(high) - math.ceil(low) + 1) / 6))
    names = {"number": lambda v: f"{v:g}", "rate": lambda v: rate(v, ""), "bytes": lambda v: rate(v, "B"),
             "share": percent}
    return {float(k): names[form](10.0**k).strip() for k in range(math.ceil(low), math.floor(high) + 1)
            if k % step == 0}
