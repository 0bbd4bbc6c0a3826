#!/usr/bin/env python3
"""Compares the interface of every operator class with vLLM's and writes docs/vllm-interfaces.md.

Usage: PYTHONPATH=. python3 benchmarks/vllm_interfaces.py [--check] [WHEEL_OR_SIGNATURES [PAGE]]
Without a wheel the signatures that vllm_signatures.py took from it are read: docs/results/vllm-0.26.0-signatures.json.
Exits 1, and names them, where a class has no counterpart, a class of vLLM's that the zoo is to have is missing, a
difference is not explained in vllm_explanations.py or an explanation there explains nothing; with --check also where
the page on disk is not the one that would be written.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vllm_explanations import COUNTERPARTS, EXPLANATIONS, OWN, WANTED, Explanation
from vllm_signatures import Interface, Signatures, Wheel, WheelError, parameters, read

from fastkernels.errors import did_you_mean
from fastkernels.registry import OperatorFile, Signature, baseline_root, discover
from fastkernels.registry.classes import Found, definition, find_class
from fastkernels.registry.excerpt import FORWARDS
from fastkernels.registry.signatures import POSITIONAL
from fastkernels.registry.sources import TaskSources
from fastkernels.registry.tree import TaskTree

ROOT = Path(__file__).parents[1]
STORED = ROOT / "docs" / "results" / "vllm-0.26.0-signatures.json"
PAGE = ROOT / "docs" / "vllm-interfaces.md"
LEVELS = {1: "kernels", 2: "blocks", 3: "decoder layers", 4: "models"}


@dataclass(frozen=True)
class OwnClass:
    """One class of the task tree."""

    name: str
    """Class name."""
    file: str
    """`L1/rms_norm.py`."""
    level: int
    """1 to 4."""
    init: str
    """Parameters of `__init__`, as vllm_signatures writes them."""
    forward: str
    """Parameters of forward, and what it returns."""


@dataclass(frozen=True)
class Difference:
    """One parameter that is not the same."""

    key: str
    """What explanations match: `-name` is vLLM's alone, `+name` ours alone, `=name` has another default, `!name` is
    passed otherwise, `~method` has its common parameters in another order."""
    text: str
    """The difference in words."""


@dataclass(frozen=True)
class Row:
    """One class beside its counterpart."""

    ours: OwnClass
    """The class."""
    theirs: Interface | None
    """vLLM's; None where the class is the project's own."""
    name: str
    """vLLM's name, or why there is none."""
    differences: tuple[tuple[Difference, str], ...]
    """Each with its explanation; an empty one where there is none."""


def own_classes(root: Path) -> list[OwnClass]:
    """Every public class of the task tree that can be called, by level and file."""
    sources = TaskSources(TaskTree(root))
    return [_own(sources, operator, name) for operator in discover(root).values() for name in operator.classes]


def _own(sources: TaskSources, operator: OperatorFile, name: str) -> OwnClass:
    found = find_class(sources, operator.module, name)
    assert isinstance(found, Found)
    init, forward = definition(found, ("__init__",)), definition(found, FORWARDS)
    assert forward is not None
    return OwnClass(name, f"L{operator.level}/{operator.name}.py", operator.level,
                    parameters(init[1]).split(" -> ")[0] if init else "()", parameters(forward[1]))


def signature(text: str) -> Signature:
    """Read what `parameters` wrote."""
    function = ast.parse(f"@staticmethod\ndef f{text}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    return Signature.of(function)


def compare(ours: OwnClass, theirs: Interface) -> list[Difference]:
    """What differs; the arguments of a function are looked for in `__init__` and forward together."""
    init, forward = signature(ours.init), signature(ours.forward)
    if theirs.init is None:
        both = Signature((*init.params, *forward.params))
        return _differences("the function", both, signature(theirs.forward), in_order=False)
    return [*_differences("__init__", init, signature(theirs.init)),
            *_differences("forward", forward, signature(theirs.forward))]


def _differences(method: str, ours: Signature, theirs: Signature, in_order: bool = True) -> list[Difference]:
    here, there = ours.named(), theirs.named()
    found = [Difference(f"-{name}", f"{method}: `{param}` is vLLM's alone")
             for name, param in there.items() if name not in here]
    found += [Difference(f"+{name}", f"{method}: `{param}` is ours alone")
              for name, param in here.items() if name not in there]
    for name in (name for name in here if name in there):
        a, b = here[name], there[name]
        if a.default != b.default:
            words = [f"`{p}`" if p.default is not None else f"`{p}`, required" for p in (a, b)]
            found.append(Difference(f"={name}", f"{method}: {words[0]}; vLLM has {words[1]}"))
        elif in_order and a.kind is not b.kind:
            found.append(Difference(f"!{name}", f"{method}: `{name}` is {a.kind}, vLLM's is {b.kind}"))
    by_place = [p.name for p in ours.params if in_order and p.kind in POSITIONAL and p.name in there
                and there[p.name].kind in POSITIONAL]
    orders = [[p.name for p in side.params if p.name in by_place] for side in (ours, theirs)]
    if orders[0] != orders[1]:
        found.append(Difference(f"~{method}", f"{method}: order {', '.join(orders[0])}; vLLM {', '.join(orders[1])}"))
    return found


def explain(name: str, difference: Difference, used: set[Explanation]) -> str:
    """The first explanation that is meant for this class and difference; empty where there is none."""
    for explanation in EXPLANATIONS:
        if explanation.covers(name, difference.key):
            used.add(explanation)
            return explanation.text
    return ""


def counterpart(name: str, interfaces: Mapping[str, list[Interface]]) -> tuple[str, Interface] | None:
    """vLLM's name and interface for one of our classes; None where it has none of that name, or several."""
    theirs, _, part = COUNTERPARTS.get(name, name).partition(" in ")
    found = [interface for interface in interfaces.get(theirs, []) if interface.file.endswith(part)]
    return (theirs, found[0]) if len(found) == 1 else None


def rows_and_problems(classes: list[OwnClass], signatures: Signatures) -> tuple[list[Row], list[str]]:
    """Every class beside its counterpart, and what is missing or not explained."""
    rows, problems, used = [], [], set[Explanation]()
    for ours in classes:
        if ours.name in OWN:
            rows.append(Row(ours, None, OWN[ours.name], ()))
            continue
        found = counterpart(ours.name, signatures.interfaces)
        if found is None:
            problems.append(f"{ours.file}: class {ours.name} has no counterpart in vLLM {signatures.version}"
                            f"{did_you_mean(ours.name, signatures.interfaces)}; name it in COUNTERPARTS or OWN")
            continue
        pairs = tuple((d, explain(ours.name, d, used)) for d in compare(ours, found[1]))
        problems += [f"{ours.file}: class {ours.name}: {difference.text}, not explained: `{difference.key}`"
                     for difference, why in pairs if not why]
        rows.append(Row(ours, found[1], found[0], pairs))
    return rows, [*problems, *_stale(classes, used)]


def _stale(classes: list[OwnClass], used: set[Explanation]) -> Iterator[str]:
    names = {ours.name for ours in classes}
    for name in WANTED:
        if name not in names:
            yield f"class {name} is missing in the task tree{did_you_mean(name, names)}"
    for explanation in EXPLANATIONS:
        if explanation not in used:
            yield f"explanation without use: {explanation.classes}: {explanation.keys}"
    for table in (COUNTERPARTS, OWN):
        yield from (f"{name} of the tables is no class of the task tree{did_you_mean(name, names)}"
                    for name in table if name not in names)


def page(rows: list[Row], signatures: Signatures) -> str:
    """The whole document."""
    compared = [row for row in rows if row.theirs is not None]
    equal = sum(not row.differences for row in compared)
    why: dict[str, int] = {}
    for row in compared:
        for _, text in row.differences:
            why[text] = why.get(text, 0) + 1
    numbers = {text: number for number, text in enumerate(why, 1)}
    lines = [
        "# Interfaces beside vLLM's", "",
        f"Every operator class and the class or function of vLLM {signatures.version} that it stands for: classes",
        f"{len(rows)}, compared {len(compared)}, without any difference {equal}. Names, kinds, order and defaults of",
        "parameters count; annotations are shown and do not. `-` marks a parameter that is vLLM's alone, `+` one of",
        "ours alone, `=` another default, `!` another way to pass it, `~` another order.", "",
        f"vLLM's side was read off the syntax trees of `{signatures.wheel}`",
        "([signatures](results/vllm-0.26.0-signatures.json)). This page is generated; changes by hand are lost:", "",
        "    PYTHONPATH=. python3 benchmarks/vllm_interfaces.py", "",
        "## Why they differ", "", *(f"{number}. {text}" for text, number in numbers.items()),
    ]  # fmt: skip
    for level, title in LEVELS.items():
        own = [row for row in rows if row.ours.level == level]
        if own:
            lines += ["", f"## Level {level}: {title}"]
            lines += [line for row in own for line in _section(row, numbers)]
    return "\n".join(lines) + "\n"


def _section(row: Row, numbers: Mapping[str, int]) -> Iterator[str]:
    ours, theirs = row.ours, row.theirs
    yield from ("", f"### {ours.name}", "")
    if theirs is None:
        yield from (f"`{ours.file}`; vLLM has none: {row.name}", "", "```python", f"__init__{ours.init}",
                    f"forward{ours.forward}", "```")
        return
    yield from (f"`{ours.file}`, vLLM's `{row.name}` in `{theirs.file.removeprefix('vllm/')}`", "", "```python")
    yield from ("# ours", f"__init__{ours.init}", f"forward{ours.forward}", "# vLLM")
    yield from ([f"__init__{theirs.init}", f"forward{theirs.forward}"] if theirs.init is not None
                else [f"{row.name}{theirs.forward}"])
    yield "```"
    grouped: dict[str, list[str]] = {}
    for difference, why in row.differences:
        grouped.setdefault(why, []).append(difference.key)
    if grouped:
        yield ""
    for why, keys in grouped.items():
        yield f"- {', '.join(f'`{key}`' for key in keys)}: " + (f"see {numbers[why]}" if why else "**not explained**")


def main(words: list[str]) -> int:
    """Compare, write or check the page, and return the exit status."""
    check = "--check" in words
    paths = [Path(word) for word in words if word != "--check"]
    if len(paths) > 2 or any(word.startswith("-") for word in words if word != "--check"):
        print(__doc__, file=sys.stderr)
        return 2
    source, target = (*paths, *(STORED, PAGE)[len(paths):])
    try:
        signatures = read(Wheel(source)) if source.suffix == ".whl" else Signatures.load(source)
    except WheelError as error:
        print(f"vllm_interfaces: {error}", file=sys.stderr)
        return 1
    rows, problems = rows_and_problems(own_classes(baseline_root()), signatures)
    text = page(rows, signatures)
    if not check:
        target.write_text(text, encoding="utf-8")
    elif not target.is_file() or target.read_text(encoding="utf-8") != text:
        problems.append(f"{target}: not what would be written; run this script without --check")
    print("\n".join([*problems, f"classes {len(rows)}, problems {len(problems)}"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
