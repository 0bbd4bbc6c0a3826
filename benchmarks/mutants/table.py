"""Counts what the grader found, as tables for a page, and says what is wrong with the outcome."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.mutants.explained import EQUIVALENT, EXPLAINED, Explained
from benchmarks.mutants.grading import Graded

HEAD = "mutants | equivalent | caught | of these did not run | survived | score | score of those that run |"
"""Columns after the first."""


def equivalent(graded: Graded) -> bool:
    """Whether the table says that it is no different from the original."""
    known = EXPLAINED.get(graded.id)
    return known is not None and known.reason in EQUIVALENT


def counted(some: Iterable[Graded]) -> dict[str, int | float]:
    """Numbers of one row; scores are shares of what is not equivalent, 1.0 where there is nothing."""
    rows = list(some)
    real = [graded for graded in rows if not equivalent(graded)]
    ended = sum(graded.ended for graded in real)
    survived = sum(graded.survived for graded in real)
    caught = len(real) - survived
    runs = len(real) - ended
    return {"mutants": len(rows), "equivalent": len(rows) - len(real), "caught": caught, "ended": ended,
            "survived": survived, "score": caught / len(real) if real else 1.0,
            "score_of_running": (caught - ended) / runs if runs else 1.0}


def summary(graded: Sequence[Graded]) -> dict[str, Any]:
    """Counts in all, by level, origin, kind and file, verdicts, and the reasons of survivors."""
    groups: dict[str, Callable[[Graded], str]] = {
        "level": lambda g: f"level {g.level}", "origin": lambda g: g.origin, "kind": lambda g: g.kind,
        "file": lambda g: g.module,
    }
    found: dict[str, Any] = {"all": counted(graded)}
    for name, key in groups.items():
        parts: dict[str, list[Graded]] = defaultdict(list)
        for one in graded:
            parts[key(one)].append(one)
        found[name] = {part: counted(some) for part, some in sorted(parts.items())}
    found["verdicts"] = dict(Counter(one.verdict for one in graded).most_common())
    known = (EXPLAINED.get(one.id) for one in graded if one.survived)
    found["reasons"] = dict(Counter(reason.reason if reason else "none" for reason in known).most_common())
    return found


def report(graded: Sequence[Graded]) -> str:
    """The tables, then every survivor with its reason."""
    found = summary(graded)
    lines: list[str] = []
    for name in ("level", "origin", "kind", "file"):
        lines += [f"| {name} | {HEAD}", "|---" * (HEAD.count("|") + 1) + "|"]
        rows = {**found[name], "**all**": found["all"]}
        lines += [f"| {part} | " + " | ".join(_cells(numbers)) + " |" for part, numbers in rows.items()]
        lines.append("")
    for title, name in (("verdicts", "verdicts"), ("survivors by reason", "reasons")):
        lines.append(f"{title}: " + ", ".join(f"`{key}` {count}" for key, count in found[name].items()))
    for one in graded:
        if one.survived:
            known = EXPLAINED.get(one.id)
            lines.append(f"survived: {one.id}: {known.text if known else 'NOT EXPLAINED'}")
    return "\n".join(lines)


def _cells(numbers: dict[str, Any]) -> list[str]:
    shares = [f"{100 * numbers[name]:.1f} %" for name in ("score", "score_of_running")]
    return [str(numbers[name]) for name in ("mutants", "equivalent", "caught", "ended", "survived")] + shares


def problems(graded: Sequence[Graded], copies: Sequence[Graded]) -> list[str]:
    """What must not be: copies that fail, what was not graded, survivors without a reason, reasons that are wrong."""
    found = [f"the unchanged copy of {copy.module} was not passed: {copy.verdict} at {copy.scenario}: {copy.message}"
             for copy in copies if not copy.survived]
    for one in graded:
        known: Explained | None = EXPLAINED.get(one.id)
        if one.ungraded:
            found.append(f"not graded: {one.id}: {one.scenario}: {one.message}")
        elif one.survived and known is None:
            found.append(f"survived and is not explained: {one.id}")
        elif not one.survived and known is not None:
            found.append(f"the table says that this survives, but it was caught ({one.verdict}): {one.id}")
    return found
