"""The red team's tables and its summary."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redteam.project import Outcome

HEAD = ("class", "case", "trick", "expected", "given", "seconds", "next scenario")


def row(outcome: Outcome) -> tuple[str, ...]:
    """One line of the table."""
    case = outcome.case
    given = (outcome.not_run and f"not run: {outcome.not_run}") or _words(outcome.given) or "no result"
    given += f" (UNDECIDED, {outcome.undecided})" if outcome.undecided else ""
    following = "" if outcome.not_run else "unharmed" if outcome.next_passed else "HARMED"
    seconds = f"{outcome.seconds:.1f}" if outcome.given else ""
    return (case.kind, case.name, case.trick.rstrip("."), _words(case.expect), given, seconds, following)


def progress(outcome: Outcome, number: int, total: int) -> str:
    """One line while the run goes on."""
    case = outcome.case
    if outcome.not_run:
        end = f"not run: {outcome.not_run}"
    else:
        end = f"{_words(outcome.given) or 'no result'} ({outcome.run_s:.0f} s)"
        if outcome.undecided:
            end += f"  UNDECIDED: {outcome.undecided}"
        elif not outcome.right:
            end += f"  {_wrong(outcome)}"
    return f"[{number}/{total}] {case.kind}/{case.name}: {end}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last lines: adversaries and twins counted, what was not run or not decided, what is wrong and why."""
    ran = [outcome for outcome in outcomes if not outcome.not_run and not outcome.undecided]
    adversaries = [outcome for outcome in ran if not outcome.case.is_twin]
    twins = [outcome for outcome in ran if outcome.case.is_twin]
    lines = [
        f"{len(adversaries)} adversaries: {sum(one.accepted for one in adversaries)} accepted, "
        f"{sum(one.as_expected for one in adversaries)} of {len(adversaries)} with an expected verdict; "
        f"{len(twins)} twins: {sum(one.as_expected for one in twins)} accepted; "
        f"next scenario unharmed after {sum(one.next_passed for one in ran)} of {len(ran)}"]
    missing = [outcome for outcome in outcomes if outcome.not_run]
    if missing:
        reasons = sorted({outcome.not_run for outcome in missing})
        lines.append(f"not run: {len(missing)} ({'; '.join(reasons)})")
    undecided = [outcome for outcome in outcomes if outcome.undecided]
    if undecided:
        lines.append(f"UNDECIDED: {len(undecided)}, counted nowhere above; run them again on a quiet machine:")
        lines += [f"  {one.case.kind}/{one.case.name}: {_words(one.given)} ({one.undecided})" for one in undecided]
    again = [outcome for outcome in ran if outcome.first]
    if again:
        lines.append(f"refused otherwise than expected at first: {len(again)}, run once more:")
        lines += [f"  {one.case.kind}/{one.case.name}: {_words(one.first)}, then {_words(one.given)}" for one in again]
    lines += [wrong_line(one) for one in ran if not one.right]
    return "\n".join(lines)


def wrong_line(outcome: Outcome) -> str:
    """A case that is not as it must be: what it gave, and what is wrong."""
    return f"{outcome.case.kind}/{outcome.case.name}: {_words(outcome.given) or 'no result'}  {_wrong(outcome)}"


def text(outcomes: Sequence[Outcome]) -> str:
    """The table in columns."""
    rows = [HEAD, *map(row, outcomes)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in rows)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table for a page."""
    lines = [HEAD, ("---",) * len(HEAD), *map(row, outcomes)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return f"{table}\n\n{summary(outcomes)}\n"


def to_json(outcomes: Sequence[Outcome], environment: dict[str, Any]) -> str:
    """Everything, for whoever reads it later."""
    rows = [{"class": one.case.kind, "case": one.case.name, "trick": one.case.trick, "seen": one.case.seen,
             "target": one.case.target, "expected": [str(verdict) for verdict in one.case.expect],
             "given": [str(verdict) for verdict in one.given], "messages": list(one.messages),
             "noise": list(one.noise), "first": [str(verdict) for verdict in one.first], "speedups": list(one.speedups),
             "seconds": round(one.seconds, 3), "run_s": round(one.run_s, 3), "next_passed": one.next_passed,
             "next_finding": one.next_finding,
             "problems": list(one.problems), "not_run": one.not_run, "undecided": one.undecided,
             "right": one.right} for one in outcomes]
    return json.dumps({"environment": environment, "cases": rows}, indent=1) + "\n"


def write(path: Path, content: str) -> None:
    """Write a file, with its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _words(verdicts: Sequence[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, verdicts)))


def _wrong(outcome: Outcome) -> str:
    """What is wrong with a run: what was due, what its first unexpected verdict said, and whatever else is amiss."""
    said = [message for verdict, message in zip(outcome.given, outcome.messages, strict=False)
            if verdict not in outcome.case.expect and message][:1]
    after = [] if outcome.next_passed else [f"the next scenario: {outcome.next_finding or 'no result'}"]
    words = [f"WRONG: expected {_words(outcome.case.expect)}", *said, *after, *outcome.problems]
    return "; ".join(" ".join(word.split()) for word in words)
