"""A directory of candidates: which operators it replaces and what can be told without running anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastkernels.errors import CandidateError, did_you_mean, shown
from fastkernels.registry.classes import Unseen, class_names, class_signature, find_class
from fastkernels.registry.operators import OperatorFile, baseline_root, operator_paths, read_operator
from fastkernels.registry.signatures import differences
from fastkernels.registry.source import Source
from fastkernels.registry.sources import TaskSources
from fastkernels.registry.tree import LEVELS, TaskTree, is_helper, python_files
from fastkernels.results import Verdict

Problem = tuple[Verdict, str]
"""SYNTAX_ERROR, MISSING_CLASS or WRONG_SIGNATURE, and the message."""


@dataclass(frozen=True)
class CandidateFile:
    """One file of a candidate directory."""

    module: str
    """Module that it stands for: `L1.rms_norm`; `L1._common` for a helper."""
    path: Path
    """The file."""
    sha256: str
    """Hash of its bytes."""
    problem: Problem | None = None
    """What keeps it from being run; also what is wrong with a helper that it imports."""
    uses_baseline: tuple[str, ...] = ()
    """Absolute imports of `fastkernels.tasks`, which reach the baseline past the overlay."""


@dataclass(frozen=True)
class Candidates:
    """The files of one candidate directory."""

    files: Mapping[str, CandidateFile]
    """Replacements of operators by module."""
    directory: Path | None = None
    """The directory, absolute; None where the default slot does not exist."""
    helpers: Mapping[str, CandidateFile] = field(default_factory=dict)
    """Files named `_*` by module; the candidates import them."""
    sources: TaskSources | None = field(default=None, repr=False, compare=False)
    """The files as they were read, for the import graph."""

    @classmethod
    def load(cls, directory: str | Path | None, baseline: Path | None = None) -> "Candidates":
        """Read a candidate directory, by default `tasks/candidate` of the installed package.

        CandidateError for a directory that is missing or not laid out as the baseline is, and for a file that
        matches no baseline operator. What is wrong within a file is its `problem`, so that the others are graded.
        """
        root = baseline or baseline_root()
        chosen = (root.parent / "candidate" if directory is None else Path(directory)).absolute()
        if directory is None and not chosen.is_dir():
            return cls({})
        if directory is not None:
            _check_directory(chosen)
        sources = TaskSources(TaskTree(root, chosen))
        operators = operator_paths(root)
        paths = _modules(chosen, operators)
        helpers = {module: _helper(module, sources) for module in paths if module not in operators}
        plain = sources.over(None)
        replaced = [read_operator(plain, module, operators[module]) for module in paths if module in operators]
        files = {operator.module: _replacement(operator, sources) for operator in replaced}
        return cls(files, chosen, helpers, sources)


def _check_directory(directory: Path) -> None:
    if not directory.exists():
        siblings = [path.name for path in directory.parent.iterdir()] if directory.parent.is_dir() else []
        raise CandidateError(f"{shown(directory)}: no such candidate directory{did_you_mean(directory.name, siblings)}")
    if not directory.is_dir():
        raise CandidateError(f"{shown(directory)}: a file; expected a directory with folders {', '.join(LEVELS)}")
    if not any((directory / level).is_dir() for level in LEVELS):
        inside = f". Did you mean {shown(directory.parent)!r}?" if directory.name in LEVELS else ""
        found = ", ".join(sorted(path.name for path in directory.iterdir())[:5]) or "nothing"
        raise CandidateError(
            f"{shown(directory)}: none of the folders {', '.join(LEVELS)} is there, found {found}{inside}"
        )


def _modules(directory: Path, operators: Mapping[str, Path]) -> list[str]:
    """Modules of the directory's files; CandidateError that names every file that is neither operator nor helper."""
    modules, unknown = [], []
    known = [f"{module.replace('.', '/')}.py" for module in operators]
    for path in python_files(directory):
        relative = path.relative_to(directory)
        parts = relative.with_suffix("").parts
        if is_helper(parts) or ".".join(parts) in operators:
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        elif path.name != "__init__.py":
            nearest = did_you_mean(relative.as_posix(), known) or f"; operators: {', '.join(known)}"
            unknown.append(f"{shown(directory)}: {relative.as_posix()} matches no baseline operator{nearest}")
    if unknown:
        raise CandidateError("\n".join(unknown))
    return modules


def _helper(module: str, sources: TaskSources) -> CandidateFile:
    place = sources.place(module)
    assert place is not None
    assert place.path is not None
    source = sources.read(place.path)
    problem = (Verdict.SYNTAX_ERROR, source.error) if source.error else None
    return CandidateFile(module, source.path, source.sha256, problem, sources.imports(module).baseline)


def _replacement(operator: OperatorFile, sources: TaskSources) -> CandidateFile:
    assert sources.tasks.candidates is not None
    source = sources.read(sources.tasks.candidates / f"L{operator.level}" / f"{operator.name}.py")
    problem = _syntax_problem(operator.module, sources) or _class_problem(operator, source, sources)
    uses_baseline = sources.imports(operator.module).baseline
    return CandidateFile(operator.module, source.path, source.sha256, problem, uses_baseline)


def _syntax_problem(module: str, sources: TaskSources) -> Problem | None:
    """A syntax error in the file, or in a helper that it imports; one in another operator is that one's own."""
    for name in sources.closure(module):
        source = sources.source(name)
        if source and source.error and (name == module or is_helper(name.split("."))):
            return Verdict.SYNTAX_ERROR, source.error
    return None


def _class_problem(operator: OperatorFile, source: Source, sources: TaskSources) -> Problem | None:
    for name, signature in operator.classes.items():
        found = find_class(sources, operator.module, name)
        if isinstance(found, Unseen):
            return Verdict.MISSING_CLASS, _missing(name, found, source, operator)
        ours = class_signature(found)
        if isinstance(ours, Unseen):
            return Verdict.WRONG_SIGNATURE, f"{shown(source.path)}: class {name}: {ours.reason}"
        lines = differences(signature, ours)
        if lines:
            path = shown(source.path)
            return Verdict.WRONG_SIGNATURE, "\n".join(x if x.startswith(" ") else f"{path}: {x}" for x in lines)
    return None


def _missing(name: str, unseen: Unseen, source: Source, operator: OperatorFile) -> str:
    names = class_names(source.tree)
    listed = f"found {', '.join(names)}" if names else "the file defines no class"
    reason = "" if unseen.reason.endswith("is not defined") else f" ({unseen.reason})"
    message = f"{shown(source.path)}: class {name} is missing{reason}; {listed}{did_you_mean(name, names)}"
    if len(operator.classes) == 1:
        return message
    return (f"{message}\na candidate of this file has all of {', '.join(operator.classes)}; copy those that stay as "
            f"they are from {shown(operator.path)}")
