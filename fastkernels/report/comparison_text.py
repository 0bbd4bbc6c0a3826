"""A comparison as plain text of at most 120 columns, and as plain data for JSON."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from fastkernels.report.compare import FAILURES, Comparison, Group, Pair, Status
from fastkernels.report.formats import limit_percent, plural, ratio, signed_percent
from fastkernels.report.significance import Change
from fastkernels.report.summary import device_of
from fastkernels.results import KernelBenchResult

WIDTH = 120
"""Columns of a line at most."""
MAX_LINES = 20
"""Scenarios listed of each kind, unless all are asked for."""
_ADDRESS = 52
"""Columns of an address; the middle of a longer one is cut."""
_ORDER = (Status.NOT_COMPARABLE, Status.NOISY, Status.BASELINE_MOVED, Status.VERDICT_CHANGED, Status.NEWLY_PASSING,
          Status.FASTER, Status.GONE, Status.NO_LONGER_TIMED, Status.SLOWER, Status.NEWLY_FAILING)
"""What is listed; the worst last, where a terminal's reader begins."""


def as_text(found: Comparison, names: tuple[str, str], all_lines: bool = False) -> str:
    """The whole comparison; `names` are those of the two files. Ends with a line that begins PASSED or FAILED."""
    limit = None if all_lines else MAX_LINES
    lists = [(_times if status in (Status.FASTER, Status.SLOWER) else _reasons)(found, status, limit)
             for status in _ORDER]
    parts = [_heading(found, names), *lists, _groups(found), _operators(found), outcome(found)]
    return "\n\n".join(part for part in parts if part)


def outcome(found: Comparison) -> str:
    """One line: PASSED or FAILED, and the counts."""
    others = [f"{count:,} {status}" for status in Status
              if (count := found.counts[status]) and not (found.failures and status in FAILURES)]
    if found.failures:
        rest = ", ".join(others) or "none"
        return _wrapped(f"FAILED: {'; '.join(found.failures)}. Of the others: {rest}.{_noisy(found)}")
    return _wrapped(f"PASSED: {', '.join(others)}; limit {limit_percent(found.max_slowdown)} slower.{_noisy(found)}")


def _noisy(found: Comparison) -> str:
    """What noisy scenarios leave open."""
    count = found.counts[Status.NOISY]
    if not count:
        return ""
    what = "No time was compared" if not any(pair.change for pair in found.pairs) else (
        f"Times of {plural(count, 'scenario')} were not compared")
    return f" {what}: the machine was busy. Grade noisy scenarios again when it is quiet."


def as_data(found: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """Plain data; numbers that JSON cannot hold are null."""
    return {
        "passed": not found.failures, "failures": found.failures, "max_slowdown": found.max_slowdown,
        "runs": [_run_data(name, run) for name, run in zip(names, (found.base, found.new), strict=True)],
        "machine_differences": list(found.differences), "other_differences": list(found.notes),
        "counts": {str(status): found.counts[status] for status in Status},
        "groups": [{"op": group.op, "level": group.level, "part": group.part, "shapes": group.shapes,
                    "status": str(group.status), **_change_data(group.change)} for group in found.groups],
        "scenarios": [_pair_data(pair) for pair in found.pairs],
    }


def moved(pair: Pair) -> tuple[float, float]:
    """How the absolute times of candidate and baseline changed from run to run, as fractions: for a reader, no more."""
    before, now = pair.timings
    return _growth(before.candidate_s, now.candidate_s), _growth(before.baseline_s, now.baseline_s)


def _growth(before_s: float, now_s: float) -> float:
    return now_s / before_s - 1 if before_s > 0 else math.nan


def _heading(found: Comparison, names: tuple[str, str]) -> str:
    lines = []
    for word, name, run in zip(("base", "new"), names, (found.base, found.new), strict=True):
        commit = str(run.environment.get("commit") or "")[:10]
        facts = [plural(len(run.results), "scenario"), device_of(run), run.started[:16].replace("T", " "),
                 f"commit {commit}" if commit else ""]
        lines.append(_wrapped(f"{word:<5} {name}: {', '.join(fact for fact in facts if fact)}"))
    if found.differences:
        compared = any(pair.change for pair in found.pairs)
        rest = "speedups are compared all the same" if compared else "times are not compared (--across-machines does)"
        lines.append(_wrapped(f"NOT THE SAME MACHINE: {'; '.join(found.differences)}: {rest}"))
    if found.notes:
        lines.append(_wrapped(f"differs: {'; '.join(found.notes)}"))
    return "\n".join(lines)


def _reasons(found: Comparison, status: Status, limit: int | None) -> str:
    pairs = found.having(status)
    if not pairs:
        return ""
    together = limit is not None and status is not Status.NEWLY_FAILING
    lines = _together(pairs) if together else [f"{pair.known.id}{_why(pair)}" for pair in pairs]
    return "\n".join([f"{status} ({len(pairs):,})", *_cut([_cropped(f"  {line}") for line in lines], limit)])


def _together(pairs: Sequence[Pair]) -> list[str]:
    """A line for each operator and reason, with the first address."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.known.op, _why(pair)), []).append(pair)
    return [f"{group[0].known.id}{f' and {len(group) - 1:,} more of {op}' if len(group) > 1 else ''}{why}"
            for (op, why), group in groups.items()]


def _why(pair: Pair) -> str:
    verdicts = ""
    if pair.base and pair.new and pair.base.verdict is not pair.new.verdict:
        verdicts = f"{pair.base.verdict} -> {pair.new.verdict}"
    words = [text for text in (verdicts, " ".join(pair.reason.split())) if text]
    return f"  {': '.join(words)}" if words else ""


def _times(found: Comparison, status: Status, limit: int | None) -> str:
    rows = found.distinct(status)
    if not rows:
        return ""
    count = found.counts[status]
    alike = f", {plural(len(rows), 'measurement')}" if len(rows) < count else ""
    head = (f"  {'scenario':<{_ADDRESS}} {'base':>6} {'new':>6} {'change':>9}  {'95 % interval':<17}"
            f"{'candidate':>10} {'baseline':>9}")
    return "\n".join([f"{status} by more than {limit_percent(found.max_slowdown)} ({count:,}{alike})", head,
                      *_cut([_time_row(pair, others) for pair, others in rows], limit)])


def _time_row(pair: Pair, others: int) -> str:
    assert pair.change is not None
    before, now = pair.timings
    more = f" +{others}" if others else ""
    candidate, baseline = (signed_percent(value) for value in moved(pair))
    return (f"  {_middle(pair.known.id, _ADDRESS - len(more)) + more:<{_ADDRESS}} {ratio(before.speedup):>5}x "
            f"{ratio(now.speedup):>5}x {signed_percent(pair.change.slowdown):>9}  "
            f"{interval(pair.change):<17}{candidate:>10} {baseline:>9}")


def interval(change: Change) -> str:
    """`[+3.9, +6.2]`, in per cent."""
    return f"[{signed_percent(change.low)[:-2]}, {signed_percent(change.high)[:-2]}]"


def _groups(found: Comparison) -> str:
    """The groups of shapes that got slower or faster, the largest change first."""
    told = found.telling_groups
    if not told:
        return ""
    rows = [f"  {group.op:<22.22} {group.part:<30.30} {group.shapes:>6,} {signed_percent(group.change.slowdown):>9}  "
            f"{interval(group.change):<17} {group.status}" for group in told]
    return "\n".join([f"slower or faster by more than {limit_percent(found.max_slowdown)} in the mean over the shapes",
                      f"  {'operator':<22} {'part':<30} {'shapes':>6} {'change':>9}  95 % interval", *rows])


def _operators(found: Comparison) -> str:
    """A line for each operator: its mean change and its scenarios by status."""
    whole = {(group.op, group.level): group for group in found.groups if group.is_whole}
    keys = dict.fromkeys((pair.known.op, pair.known.level) for pair in found.pairs)
    rows = [_operator_row(key[0], [pair.status for pair in found.pairs if (pair.known.op, pair.known.level) == key],
                          whole.get(key)) for key in keys]
    return "\n".join([f"{'operator':<22} {'scenarios':>9} {'change':>9}  {'95 % interval':<17} of these", *rows])


def _operator_row(op: str, statuses: Sequence[Status], group: Group | None) -> str:
    change, ends = (signed_percent(group.change.slowdown), interval(group.change)) if group else ("-", "")
    counts = ", ".join(f"{statuses.count(status):,} {status}" for status in Status if status in statuses)
    return _cropped(f"{op:<22.22} {len(statuses):>9,} {change:>9}  {ends:<17} {counts}")


def _cut(lines: Sequence[str], limit: int | None) -> Iterator[str]:
    yield from lines[:limit]
    if limit is not None and len(lines) > limit:
        yield f"  ... {len(lines) - limit:,} more (--all lists them)"


def _cropped(line: str) -> str:
    return line if len(line) <= WIDTH else line[:WIDTH - 3] + "..."


def _middle(text: str, width: int) -> str:
    keep = width - 3
    return text if len(text) <= width else f"{text[:keep // 2]}...{text[-(keep - keep // 2):]}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="      ", break_on_hyphens=False)


def _run_data(name: str, run: KernelBenchResult) -> dict[str, Any]:
    return {"file": name, "scenarios": len(run.results), "device": device_of(run), "started": run.started,
            "commit": run.environment.get("commit")}


def _pair_data(pair: Pair) -> dict[str, Any]:
    sides = {}
    for side, result in (("base", pair.base), ("new", pair.new)):
        timing = result.timing if result else None
        sides[side] = result and {
            "verdict": str(result.verdict), "candidate_sha256": result.candidate_sha256,
            "speedup": timing and _number(timing.speedup), "baseline_s": timing and _number(timing.baseline_s),
            "candidate_s": timing and _number(timing.candidate_s)}
    return {"id": pair.known.id, "op": pair.known.op, "level": pair.known.level, "status": str(pair.status),
            "reason": pair.reason, **sides, **_change_data(pair.change)}


def _change_data(change: Change | None) -> dict[str, float | None]:
    return {name: _number(getattr(change, name)) if change else None for name in ("slowdown", "low", "high")}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
