"""The report page: one HTML document that needs nothing but itself."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastkernels.errors import ReportError
from fastkernels.report import errors_plot, formats, palette, svg
from fastkernels.report.diff import diff, history
from fastkernels.report.figures import plots, require_extra
from fastkernels.report.findings import MAX_FINDINGS, findings
from fastkernels.report.heat_map import HeatMap, describe, heat_maps, speedup_of
from fastkernels.report.runs import NamedRun
from fastkernels.report.summary import (
    OperatorRow,
    device_of,
    facts,
    headline,
    left_out_groups,
    operator_rows,
    setting_rows,
    verdict_counts,
)
from fastkernels.results import KernelBenchResult, ScenarioResult

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = ("limit_percent", "seconds", "ratio", "digits", "percent", "plural")
"""Functions of `formats` that the templates use."""
OPEN_CELLS = 5000
"""Heat maps are open from the start as long as they have no more cells than this together; the first one always is."""


def page(runs: Sequence[NamedRun]) -> str:
    """The HTML page on the last of the runs; with several, also what changed from the first to the last.

    Without scripts, styles, fonts or pictures from elsewhere; equal runs give equal text. ReportError where there is
    no run or the extra `report` is not installed.
    """
    if not runs:
        raise ReportError("a report needs one run at least")
    require_extra()
    text = _template().render(**_one_run(runs[-1]), **_several_runs(runs))
    return formats.clean(text)


def _one_run(run: NamedRun) -> dict[str, Any]:
    from markupsafe import Markup

    result = run.result
    found, maps = findings(result.results), heat_maps(result.results, result.left_out)
    figures = {name.removesuffix(".svg"): Markup(svg.inline(text)) for name, text in plots(result).items()}
    operators = operator_rows(result.results)
    passed = sum(item.verdict.ok for item in result.results)
    return {
        "name": run.name, "result": result, "headline": headline(result), "passed": passed,
        "failed": len(result.results) - passed, "counts": verdict_counts(result.results), "device": device_of(result),
        "facts": facts(result), "settings": setting_rows(result), "left_out": left_out_groups(result.left_out),
        "operators": operators, "speedup": speedup_of(result.results),
        "noisy": sum(item.noise is not None for item in result.results),
        "self_tests": sum(item.self_test for item in result.results), "operator_maps": _by_operator(maps, operators),
        "figures": figures, "errors_caption": errors_plot.caption(result.results), "findings": found[:MAX_FINDINGS],
        "gated": any(gate.outcome != "not_applicable" for item in result.results for gate in item.gates.values()),
        "hidden_findings": len(found) - len(found[:MAX_FINDINGS]), "scenarios": _sorted(result), "describe": describe,
    }


def _several_runs(runs: Sequence[NamedRun]) -> dict[str, Any]:
    if len(runs) < 2:
        return {"diff": None, "history": None}
    return {"diff": diff(runs[0], runs[-1]), "history": history(runs)}


def _by_operator(
    maps: Sequence[HeatMap], operators: Sequence[OperatorRow]
) -> list[tuple[OperatorRow, list[HeatMap], bool]]:
    """Each operator with its maps and whether they are open: failing operators first, within the bound on cells."""
    groups = {(row.op, row.level): [m for m in maps if (m.op, m.level) == (row.op, row.level)] for row in operators}
    cells, is_open = 0, set[tuple[str, int]]()
    for row in sorted(operators, key=lambda row: not row.failed):
        own = sum(heat_map.cells for heat_map in groups[row.op, row.level])
        if not is_open or cells + own <= OPEN_CELLS:
            cells += own
            is_open.add((row.op, row.level))
    return [(row, groups[row.op, row.level], (row.op, row.level) in is_open) for row in operators]


def _sorted(result: KernelBenchResult) -> list[ScenarioResult]:
    return sorted(result.results, key=lambda r: (r.level, r.op, r.variant, r.model, r.tp, r.tokens, r.id))


def anchor(row: OperatorRow | HeatMap) -> str:
    """Id of an operator's heat maps within the page."""
    return f"speedup-L{row.level}-" + "".join(char if char.isalnum() else "-" for char in row.op)


@lru_cache(maxsize=1)
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {name: getattr(formats, name) for name in FILTERS}
    style = palette.stylesheet() + (TEMPLATES / "page.css").read_text(encoding="utf-8")
    environment.globals |= {"style": style, "script": (TEMPLATES / "page.js").read_text(encoding="utf-8"),
                            "font": svg.FONT, "legend": palette.legend(), "anchor": anchor}
    return environment.get_template("page.html")
