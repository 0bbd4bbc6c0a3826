"""What a case or twin says of itself in its docstring."""

import ast
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastkernels.errors import FastKernelsError, did_you_mean, one_of
from fastkernels.results import Verdict

HERE = Path(__file__).resolve().parent
CLASSES = (
    "replay", "hidden_work", "clock", "time", "judge", "reference", "numerics", "effects", "process", "distributed")
RESTS_ON_TIMES = ("clock", "time", "hidden_work", "replay")
"""Classes whose adversaries gain by their times, and are found by them."""
NEEDS = ("cpu", "cuda", "ranks", "sandbox")
TWINS = "twins"
"""What a twin's class is called in tables and on the command line."""
KEYS = {"case": ("seen", "target", "expect", "twin"), "twin": ("target",)}
"""Keys that must be there."""
MORE_KEYS = {"case": ("needs", "options", "most_speedup"), "twin": ("seen", "needs", "options")}
"""Keys that may be."""


class CaseError(FastKernelsError):
    """A case that does not say what it must, or a selection that names none."""


@dataclass(frozen=True)
class Case:
    """One file of the red team: an adversary, or an honest twin."""

    path: Path
    """The file."""
    kind: str
    """One of CLASSES, or TWINS."""
    trick: str
    """First line of its docstring."""
    target: str
    """The operator's file that it replaces, such as `L1/rms_norm`."""
    seen: str = ""
    """Where the trick was seen; empty for some twins."""
    expect: tuple[Verdict, ...] = (Verdict.PASSED,)
    """Verdicts that count as caught; for a twin PASSED alone."""
    twin: str = ""
    """Name of the honest file that uses the same feature; empty for a twin."""
    needs: tuple[str, ...] = ()
    """What the machine must have, some of NEEDS."""
    options: tuple[str, ...] = ()
    """More options of pytest."""
    most_speedup: float | None = None
    """A speedup that the candidate has in truth, with what a measurement may be off: passing with no more gains nothing
    and counts as caught. None where the verdict itself must be one of `expect`."""

    @property
    def name(self) -> str:
        """The file's stem."""
        return self.path.stem

    @property
    def is_twin(self) -> bool:
        """Whether it is honest."""
        return self.kind == TWINS


def read_case(path: Path) -> Case:
    """Read one file's docstring; CaseError that names the file and the key where something is missing or unknown."""
    kind = TWINS if path.parent.name == TWINS else path.parent.name
    if kind != TWINS and kind not in CLASSES:
        raise CaseError(f"{_where(path)}: class {one_of(kind, CLASSES)}")
    trick, fields = _parse(path)
    form = "twin" if kind == TWINS else "case"
    allowed = (*KEYS[form], *MORE_KEYS[form])
    for key in fields:
        if key not in allowed:
            raise CaseError(f"{_where(path)}: key {one_of(key, allowed)}")
    for key in KEYS[form]:
        if not fields.get(key):
            raise CaseError(f"{_where(path)}: its docstring lacks `{key}:`; a {form} needs {', '.join(KEYS[form])}")
    needs = _words(fields.get("needs", ""))
    for need in needs:
        if need not in NEEDS:
            raise CaseError(f"{_where(path)}: needs: {one_of(need, NEEDS)}")
    return Case(path, kind, trick, fields["target"], seen=fields.get("seen", ""), twin=fields.get("twin", ""),
                expect=_verdicts(path, fields["expect"]) if form == "case" else (Verdict.PASSED,), needs=needs,
                options=tuple(shlex.split(fields.get("options", ""))),
                most_speedup=_number(path, fields["most_speedup"]) if "most_speedup" in fields else None)


def all_cases(root: Path = HERE) -> list[Case]:
    """Every adversary, by class, then every twin."""
    files = [path for kind in CLASSES for path in sorted((root / "cases" / kind).glob("*.py"))]
    stray = sorted({path.parent.name for path in (root / "cases").glob("*/*.py")} - set(CLASSES))
    if stray:
        raise CaseError(f"cases/{stray[0]}: class {one_of(stray[0], CLASSES)}")
    cases = [read_case(path) for path in (*files, *sorted((root / TWINS).glob("*.py")))]
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CaseError(f"{twice[0]}: the name of two files; names are addresses")
    twins = [case.name for case in cases if case.is_twin]
    for case in cases:
        if not case.is_twin and case.twin not in twins:
            raise CaseError(f"{_where(case.path)}: twin: {one_of(case.twin, twins)}")
    return cases


def select(cases: Sequence[Case], names: Iterable[str] = (), kinds: Iterable[str] = ()) -> list[Case]:
    """The cases of these names or classes, all where none is given; CaseError for what names nothing."""
    names, kinds = list(names), list(kinds)
    known = [*(case.name for case in cases), *CLASSES, TWINS]
    for name in names:
        if name not in known:
            raise CaseError(f"{name}: no case, twin or class of that name{did_you_mean(name, known)}")
    for kind in kinds:
        if kind not in (*CLASSES, TWINS):
            raise CaseError(f"--class {one_of(kind, (*CLASSES, TWINS))}")
    found = [case for case in cases if (not names or case.name in names or case.kind in names)
             and (not kinds or case.kind in kinds)]
    if not found:
        raise CaseError(f"no case is selected ({', '.join((*names, *(f'--class {kind}' for kind in kinds)))})")
    return found


def _parse(path: Path) -> tuple[str, dict[str, str]]:
    """First line and keys of the docstring; a line that starts with blanks goes on with the key before."""
    docstring = ast.get_docstring(ast.parse(path.read_text()), clean=True)
    if not docstring:
        raise CaseError(f"{_where(path)}: no docstring")
    trick, _, rest = docstring.partition("\n")
    if not trick.endswith("."):
        raise CaseError(f"{_where(path)}: the docstring's first line is no sentence that ends with a stop: {trick!r}")
    fields: dict[str, str] = {}
    key = ""
    for line in filter(str.strip, rest.split("\n")):
        if line[0].isspace() and key:
            fields[key] += " " + line.strip()
            continue
        key, colon, value = line.partition(":")
        if not colon or " " in key:
            raise CaseError(f"{_where(path)}: {line!r} in the docstring is no `key: value`")
        if key in fields:
            raise CaseError(f"{_where(path)}: `{key}:` stands twice in the docstring")
        fields[key] = value.strip()
    return trick, fields


def _verdicts(path: Path, text: str) -> tuple[Verdict, ...]:
    known = [str(verdict) for verdict in Verdict]
    for word in _words(text):
        if word not in known or word == Verdict.PASSED:
            allowed = [name for name in known if name != Verdict.PASSED]
            raise CaseError(f"{_where(path)}: expect: {one_of(word, allowed)}")
    return tuple(map(Verdict, _words(text)))


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CaseError(f"{_where(path)}: most_speedup: {text!r} is no number") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _where(path: Path) -> str:
    return str(path.relative_to(HERE)) if path.is_relative_to(HERE) else "/".join(path.parts[-3:])
