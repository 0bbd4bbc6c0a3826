"""The page's sections on several runs: what changed from the first to the last, and each run's means."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fastkernels.report.compare import FAILURES, Comparison, Group, Pair, Status, compare
from fastkernels.report.comparison_text import interval, moved
from fastkernels.report.formats import plural, shorten, signed_percent
from fastkernels.report.heat_map import geometric_mean
from fastkernels.report.palette import heat_class
from fastkernels.report.runs import NamedRun
from fastkernels.report.summary import device_of
from fastkernels.results import KernelBenchResult, KernelSource, ScenarioResult

HEADLINE_OPERATORS = 3
"""Operators that the page's headline names for each kind of change."""
MAX_ROWS = 30
"""Scenarios shown of each kind; the command `fastkernels compare --all` has the rest."""
MAX_SOURCE_DIFF = 8000
"""Characters of the difference shown of one source file."""
_REASONED = (Status.NEWLY_FAILING, Status.VERDICT_CHANGED, Status.NEWLY_PASSING, Status.GONE, Status.NO_LONGER_TIMED,
             Status.NEW, Status.NOT_COMPARABLE, Status.NOISY, Status.BASELINE_MOVED)
_TIMED = (Status.SLOWER, Status.FASTER)
_COUNTED = (Status.NEWLY_FAILING, Status.SLOWER, Status.GONE, Status.FASTER, Status.NEWLY_PASSING, Status.SAME)
"""Columns of the table of operators."""


@dataclass(frozen=True)
class TimeRow:
    """One measurement that got slower or faster."""

    id: str
    """Address, the first of those that share it."""
    others: int
    """Further addresses of the same measurement."""
    before: float
    """Speedup in the first run."""
    now: float
    """Speedup in the last run."""
    change: str
    """Change of the time, in per cent."""
    style: str
    """CSS class of its colour."""
    interval: str
    """95 % interval of the change."""
    candidate: str
    """Change of the candidate's absolute time."""
    baseline: str
    """Change of the baseline's absolute time."""


@dataclass(frozen=True)
class ReasonRow:
    """Scenarios of one operator with the same verdicts and the same reason."""

    verdicts: tuple[str, str] | None
    """Verdicts before and now, where they differ."""
    reason: str
    """What the failure says, or why it cannot be compared."""
    ids: tuple[str, ...]
    """Addresses."""


@dataclass(frozen=True)
class OperatorRow:
    """One operator of the comparison."""

    op: str
    """Operator."""
    level: int
    """1 to 4."""
    counts: tuple[int, ...]
    """Scenarios by status, in the order of the table's columns."""
    others: str
    """The other statuses with their counts."""
    change: str
    """Mean change of the time over the shapes; a dash where there are less than two."""
    style: str
    """CSS class of its colour."""
    interval: str
    """95 % interval of that."""
    told: str
    """`slower`, `faster`, or nothing."""


@dataclass(frozen=True)
class Diff:
    """What changed from one run to another, as the page shows it."""

    names: tuple[str, str]
    """Names of both runs."""
    headline: str
    """What got worse, with the operators at fault; else what got better, or that nothing did."""
    comparison: Comparison
    """The comparison behind it."""
    verdict: str
    """One sentence: what came of it."""
    columns: tuple[str, ...]
    """Statuses that the table of operators counts."""
    operators: tuple[OperatorRow, ...]
    """The table of operators."""
    parts: tuple[OperatorRow, ...]
    """Uses and token counts that changed more than their operator."""
    reasons: tuple[tuple[str, int, tuple[ReasonRow, ...]], ...]
    """By status: its scenarios, and those gathered by reason."""
    times: tuple[tuple[str, int, tuple[TimeRow, ...], int], ...]
    """By status: its scenarios, the first MAX_ROWS measurements, and how many more there are."""
    sources: tuple[tuple[str, str, str], ...]
    """Changed candidate files: name, `changed`, `new` or `gone`, and the difference."""


@dataclass(frozen=True)
class History:
    """The geometric mean of each operator's speedup in every run."""

    runs: tuple[tuple[str, str, str, str], ...]
    """Name, start, passed scenarios and device of each."""
    rows: tuple[tuple[str, int, tuple[tuple[float | None, str], ...]], ...]
    """Operator, shapes that every run timed, and for each run the mean over these with its colour."""
    devices: int
    """Different devices."""


def diff(first: NamedRun, last: NamedRun) -> Diff:
    """What changed from the first run to the last, decided as `fastkernels compare` decides it by default."""
    found = compare(first.result, last.result)
    reasons = [(str(status), found.counts[status], tuple(_reason_rows(found.having(status))))
               for status in _REASONED if found.counts[status]]
    times = []
    for status in _TIMED:
        rows = found.distinct(status)
        if rows:
            times.append((str(status), found.counts[status], tuple(_time_row(*row) for row in rows[:MAX_ROWS]),
                          len(rows[MAX_ROWS:])))
    parts = [_part_row(group) for group in found.telling_groups if not group.is_whole]
    return Diff((first.name, last.name), _headline(found), found, _verdict(found), tuple(map(str, _COUNTED)),
                tuple(_operators(found)), tuple(parts), tuple(reasons), tuple(times),
                tuple(_sources(first.result, last.result)))


def history(runs: Sequence[NamedRun]) -> History | None:
    """Each operator's mean speedup from run to run, over the shapes that all of them timed; None below three runs."""
    if len(runs) < 3:
        return None
    timed = [{(r.op, r.level, r.shape_key): r.timing.speedup for r in run.result.results if r.timing} for run in runs]
    common = [key for key in timed[-1] if all(key in one for one in timed)]
    rows = []
    for op, level in dict.fromkeys(key[:2] for key in timed[-1]):
        keys = [key for key in common if key[:2] == (op, level)]
        means = [geometric_mean(one[key] for key in keys) for one in timed]
        rows.append((op, len(keys), tuple((mean, heat_class(mean) if mean else "none") for mean in means)))
    heads = [(run.name, run.result.started[:16].replace("T", " "), _passed(run.result.results), device_of(run.result))
             for run in runs]
    return History(tuple(heads), tuple(rows), len({head[3] for head in heads}))


def _passed(results: Sequence[ScenarioResult]) -> str:
    return f"{sum(result.verdict.ok for result in results):,} of {len(results):,}"


def _headline(found: Comparison) -> str:
    """`Worse: 8 newly failing (rms_norm), 25 slower (linear, up to +20.0 %)`."""
    if not found.failures:
        better = [_told(found, status) for status in (Status.FASTER, Status.NEWLY_PASSING) if found.counts[status]]
        return f"Not worse: {', '.join(better)}" if better else "Not worse: nothing changed"
    worse = [_told(found, status) for status in FAILURES if found.counts[status]]
    return f"Worse: {', '.join(worse)}" if worse else f"Worse: {found.failures[0]}"


def _told(found: Comparison, status: Status) -> str:
    pairs = found.having(status)
    ops = list(dict.fromkeys(pair.known.op for pair in pairs))
    more = f" +{len(ops) - HEADLINE_OPERATORS}" if len(ops) > HEADLINE_OPERATORS else ""
    where = ", ".join(ops[:HEADLINE_OPERATORS]) + more
    moves = [pair.change.slowdown for pair in pairs if pair.change] if status in _TIMED else []
    most = f", up to {signed_percent(max(moves, key=abs))}" if moves else ""
    return f"{found.counts[status]:,} {status} ({where}{most})"


def _verdict(found: Comparison) -> str:
    if found.failures:
        return "; ".join(found.failures) + "."
    changed = [f"{found.counts[status]:,} {status}" for status in (Status.FASTER, Status.NEWLY_PASSING)
               if found.counts[status]]
    return f"Nothing got slower or worse{'; ' if changed else ''}{', '.join(changed)}."


def _operators(found: Comparison) -> list[OperatorRow]:
    whole = {(group.op, group.level): group for group in found.groups if group.is_whole}
    counts: dict[tuple[str, int], Counter[Status]] = {}
    for pair in found.pairs:
        counts.setdefault((pair.known.op, pair.known.level), Counter())[pair.status] += 1
    rows = []
    for (op, level), own in counts.items():
        others = ", ".join(f"{own[status]:,} {status}" for status in Status if own[status] and status not in _COUNTED)
        rows.append(_row(op, level, whole.get((op, level)), tuple(own[status] for status in _COUNTED), others))
    return rows


def _part_row(group: Group) -> OperatorRow:
    return _row(group.name, group.level, group, (), plural(group.shapes, "shape"))


def _row(op: str, level: int, group: Group | None, counts: tuple[int, ...], others: str) -> OperatorRow:
    if group is None:
        return OperatorRow(op, level, counts, others, "-", "none", "", "")
    told = "" if group.status is Status.SAME else str(group.status)
    return OperatorRow(op, level, counts, others, signed_percent(group.change.slowdown),
                       _colour(group.change.slowdown), interval(group.change), told)


def _colour(slowdown: float) -> str:
    return heat_class(1 / (1 + slowdown)) if slowdown > -1 else "none"


def _time_row(pair: Pair, others: int) -> TimeRow:
    assert pair.change is not None
    before, now = pair.timings
    return TimeRow(pair.known.id, others, before.speedup, now.speedup, signed_percent(pair.change.slowdown),
                   _colour(pair.change.slowdown), interval(pair.change), *map(signed_percent, moved(pair)))


def _reason_rows(pairs: Sequence[Pair]) -> list[ReasonRow]:
    groups: dict[tuple[object, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.known.op, _verdicts(pair), pair.reason), []).append(pair)
    rows = [ReasonRow(_verdicts(group[0]), shorten(group[0].reason, 600), tuple(pair.known.id for pair in group))
            for group in groups.values()]
    return rows[:MAX_ROWS]


def _verdicts(pair: Pair) -> tuple[str, str] | None:
    if pair.base is None or pair.new is None or pair.base.verdict is pair.new.verdict:
        return None
    return str(pair.base.verdict), str(pair.new.verdict)


def _sources(first: KernelBenchResult, last: KernelBenchResult) -> list[tuple[str, str, str]]:
    """Candidate files that differ, with a unified difference."""
    before, now = ({(kernel.level, kernel.op): kernel for kernel in run.kernels} for run in (first, last))
    rows = []
    for key in dict.fromkeys([*now, *before]):
        old, new = before.get(key), now.get(key)
        if old and new and old.sha256 == new.sha256:
            continue
        name = f"L{key[0]} {key[1]}" if key[0] else f"{key[1]} (helper)"
        rows.append((name, "changed" if old and new else "new" if new else "gone", _source_diff(old, new)))
    return rows


def _source_diff(old: KernelSource | None, new: KernelSource | None) -> str:
    if old is None or new is None:
        return ""
    lines = difflib.unified_diff(old.code.splitlines(), new.code.splitlines(), old.path, new.path, lineterm="", n=2)
    return shorten("\n".join(lines), MAX_SOURCE_DIFF)
