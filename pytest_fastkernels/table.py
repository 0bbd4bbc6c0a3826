"""The table of results: as detailed as fits in a screenful, 120 columns at most."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from fastkernels.results import GateOutcome, ScenarioResult, Verdict

WIDTH = 120
"""Columns that a row may take."""
ROWS = 60
"""Rows above which scenarios are summed up; -v shows each."""
HEADER = ("operator", "model", "TP", "tokens", "verdict", "max_abs", "max_ratio", "baseline", "candidate", "speedup",
          "roof", "gates")
SHRINKABLE = {0: 12, 1: 10, 11: 12}
"""Columns that may be cut to fit, with the least width of each; a verdict never is."""
NOISY = "noisy"
"""Stands for the speedup of a scenario that the machine was too busy to time."""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    cells: tuple[str, ...]
    """One text per column of HEADER; the last is empty where no gate was tried."""
    ok: bool
    """False where a scenario in it failed."""


@dataclass(frozen=True)
class Table:
    """Formatted lines and what they show."""

    lines: tuple[tuple[str, bool], ...]
    """Each line with False for a failure; the first is the header."""
    note: str
    """What the rows stand for, where not one for each scenario."""


def make_table(results: Sequence[ScenarioResult], verbose: bool) -> Table:
    """Return the most detailed table within ROWS rows; every scenario where `verbose`."""
    if verbose:
        return _layout([_scenario_row([result]) for result in results], "")
    shapes = _grouped(results, _same_shape)
    if len(shapes) <= ROWS:
        note = "one row for each shape" if len(shapes) < len(results) else ""
        return _layout([_scenario_row(group) for group in shapes], note)
    failed = [group for group in shapes if not group[0].verdict.ok]
    by_model = _grouped(results, lambda r: (r.op, r.variant, r.model))
    by_op = _grouped(results, lambda r: (r.op, r.variant))
    groups, kind = (by_model, "operator and model") if len(by_model) <= ROWS else (by_op, "operator")
    rows = [_scenario_row(group) for group in failed[:ROWS]] + [_summary_row(group) for group in groups]
    more = f"; {len(failed) - ROWS} more failing shapes are not shown" if len(failed) > ROWS else ""
    first = "failures first, then " if failed else ""
    return _layout(rows, f"{first}one row for each {kind}: largest errors, median speedup and its range; "
                         f"-v shows every scenario{more}")


def seconds(value: float) -> str:
    """Write a time with three digits and its unit: `12.3 us`."""
    for scale, unit in UNITS:
        if value >= scale:
            number = value / scale
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _same_shape(result: ScenarioResult) -> Hashable:
    return result.op, result.variant, result.tokens, result.shape_key, result.verdict


Key = Callable[[ScenarioResult], Hashable]
"""What the scenarios of one row have in common."""


def _grouped(results: Iterable[ScenarioResult], key: Key) -> list[list[ScenarioResult]]:
    groups: dict[Hashable, list[ScenarioResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return list(groups.values())


def _scenario_row(group: list[ScenarioResult]) -> Row:
    first = min(group, key=lambda result: result.shared_with is not None)
    timing = first.timing
    return Row((
        _operator(first), _several(group, lambda r: r.model), _listed(sorted({r.tp for r in group})), str(first.tokens),
        _verdict(group), *_errors([first]), seconds(timing.baseline_s) if timing else "-",
        seconds(timing.candidate_s) if timing else "-", speedup_text(first),
        f"{timing.candidate_roofline:.0%}" if timing else "-", _gates([first])), first.verdict.ok)


def _summary_row(group: list[ScenarioResult]) -> Row:
    timings = [result.timing for result in group if result.timing]
    ratios = [timing.speedup for timing in timings]
    tokens = sorted({result.tokens for result in group})
    span = f"{tokens[0]}-{tokens[-1]}" if len(tokens) > 1 else str(tokens[0])
    noisy = sum(result.noise is not None for result in group)
    found = [f"{_ratio(median(ratios))}x ({_ratio(min(ratios))} to {_ratio(max(ratios))})"] if ratios else []
    speedup = ", ".join([*found, *([f"{noisy} {NOISY}" if found else NOISY] if noisy else [])]) or "-"
    roof = f"{median(timing.candidate_roofline for timing in timings):.0%}" if timings else "-"
    return Row((
        _operator(group[0]), _several(group, lambda r: r.model), _listed(sorted({r.tp for r in group})), span,
        _counts(group), *_errors(group), "", "", speedup, roof, _gates(group)),
        all(result.verdict.ok for result in group))


def _operator(result: ScenarioResult) -> str:
    return f"{result.op} {result.variant}".rstrip()


def _several(group: list[ScenarioResult], name: Callable[[ScenarioResult], str]) -> str:
    names = list(dict.fromkeys(name(result) for result in group))
    return names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"


def _listed(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _verdict(group: list[ScenarioResult]) -> str:
    word = "self-test" if group[0].self_test and group[0].verdict.ok else str(group[0].verdict)
    return word if len(group) == 1 else f"{word} x{len(group)}"


def _counts(group: list[ScenarioResult]) -> str:
    counts: dict[str, int] = {}
    for result in group:
        word = "self-test" if result.self_test and result.verdict.ok else str(result.verdict)
        counts[word] = counts.get(word, 0) + 1
    if len(counts) == 1:
        return ", ".join(f"{count} {word}" for word, count in counts.items())
    good = "self-test" if group[0].self_test else str(Verdict.PASSED)
    return f"{counts.get(good, 0)}/{len(group)} {good}"


def _errors(group: list[ScenarioResult]) -> tuple[str, str]:
    found = [result.correctness for result in group if result.correctness]
    if not found:
        return "-", "-"
    return f"{max(c.max_abs_error for c in found):.1e}", f"{max(c.max_error_ratio for c in found):.3g}"


def _gates(group: list[ScenarioResult]) -> str:
    """`2/2` gates passed of those that applied, and the names of those failed."""
    tried = [(name, gate) for result in group for name, gate in result.gates.items()
             if gate.outcome is not GateOutcome.NOT_APPLICABLE]
    failed = [name for name, gate in tried if gate.failed]
    return f"{len(tried) - len(failed)}/{len(tried)} {' '.join(dict.fromkeys(failed))}".rstrip() if tried else ""


def speedup_text(result: ScenarioResult, otherwise: str = "-") -> str:
    """`1.33x [1.24, 1.38]`; `noisy` where the machine was too busy for times, `otherwise` where none were asked for."""
    timing = result.timing
    if timing is None:
        return NOISY if result.noise else otherwise
    return f"{_ratio(timing.speedup)}x [{_ratio(timing.speedup_low)}, {_ratio(timing.speedup_high)}]"


def _ratio(value: float) -> str:
    """Two decimals, fewer from 10 on: a ratio takes four columns up to 9999."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _layout(rows: list[Row], note: str) -> Table:
    columns = len(HEADER) if any(row.cells[-1] for row in rows) else len(HEADER) - 1
    header, shrinkable = HEADER[:columns], [i for i in SHRINKABLE if i < columns]
    widths = [max(len(row[i]) for row in [header, *(row.cells for row in rows)]) for i in range(columns)]
    while sum(widths) + len(widths) - 1 > WIDTH:
        over = max(shrinkable, key=lambda i: widths[i] - SHRINKABLE[i])
        if widths[over] <= SHRINKABLE[over]:
            break
        widths[over] -= 1
    lines = [(_line(header, widths), True), *((_line(row.cells[:columns], widths), row.ok) for row in rows)]
    return Table(tuple(lines), note)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    texts = []
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = cell if len(cell) <= width else cell[:width - 1] + "~"
        texts.append(text.ljust(width) if i in (0, 1, 4, 9, 11) else text.rjust(width))
    return " ".join(texts).rstrip()
