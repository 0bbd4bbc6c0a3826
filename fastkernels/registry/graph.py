"""The import graph of the task tree with candidates laid over it: what a candidate affects, and what it does not."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fastkernels.registry.beside import Beside, Mentions, mentions
from fastkernels.registry.candidates import CandidateFile, Candidates, Problem
from fastkernels.registry.operators import operator_paths
from fastkernels.registry.sources import TaskSources
from fastkernels.registry.tree import LEVELS, TaskTree
from fastkernels.results import KernelSource, Subsumed


@dataclass(frozen=True)
class ImportGraph:
    """Static imports, those in functions too; relative imports, and `import_module` with a literal name."""

    operators: tuple[str, ...]
    """Modules of the baseline's operators."""
    candidates: Candidates
    """What is laid over them."""
    _sources: TaskSources
    _baseline: TaskSources
    """The baseline alone, kept since each module's imports are read once for all questions."""
    _hashes: dict[str, str | None] = field(default_factory=dict, repr=False, compare=False)
    _said: dict[str, Mentions] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, baseline: Path, candidates: Candidates) -> "ImportGraph":
        """Read the graph of a baseline with candidates laid over it."""
        sources = candidates.sources
        if sources is None or sources.tasks.baseline != baseline:
            sources = TaskSources(TaskTree(baseline, candidates.directory))
        return cls(tuple(operator_paths(baseline)), candidates, sources, sources.over(None))

    def imports(self, module: str) -> frozenset[str]:
        """Return the modules that a module imports itself, as the overlay has it."""
        return self._sources.imports(module).inside

    def reaches(self, module: str) -> frozenset[str]:
        """Return the candidate modules that take part when `module` runs, itself among them if it has a candidate.

        Helpers of candidates are not listed, but for those that replace a helper of the baseline.
        """
        return frozenset(name for name in self._files(module) if self._replaces(name))

    def baseline_reaches(self, module: str) -> frozenset[str]:
        """Return the modules that the baseline's own version of `module` imports, directly or not, and itself."""
        return frozenset(self._baseline.closure(module))

    def users(self, candidate: str) -> tuple[str, ...]:
        """Return the operators whose grading a candidate affects, by level and name."""
        return tuple(sorted(module for module in self.operators if candidate in self.reaches(module)))

    def affected(self) -> dict[str, tuple[str, ...]]:
        """Return for each candidate file, helpers too, the operators that run it."""
        names = (*self.candidates.files, *self.candidates.helpers)
        reached = {module: self._files(module) for module in sorted(self.operators)}
        return {name: tuple(module for module, files in reached.items() if name in files) for name in names}

    def problem(self, module: str) -> Problem | None:
        """Return what keeps `module` from being run: the problem of a candidate that it reaches, its own first."""
        files = self._files(module)
        for name in (module, *sorted(files.keys() - {module})):
            found = files[name].problem if name in files else None
            if found:
                return found
        return None

    def uses_baseline(self, module: str) -> tuple[str, ...]:
        """Return the absolute imports of the baseline in any candidate file that `module` reaches."""
        return tuple(sorted({used for file in self._files(module).values() for used in file.uses_baseline}))

    def sha256(self, module: str) -> str | None:
        """Return one hash over all that `module`'s candidates are made of; None where it reaches none.

        Candidate files that it reaches, helpers too, and what their code can read beside them (see `beside`).
        """
        if module not in self._hashes:
            files = self._files(module)
            lines = [f"{name} {self._all[name].sha256}\n" for name in sorted(self._read(files))]
            lines += [f"{line}\n" for line in self._beside.lines(self._words(files))] if files else []
            self._hashes[module] = hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None
        return self._hashes[module]

    def sources(self, module: str) -> tuple[KernelSource, ...]:
        """Return the text of all candidate files that `module` reaches, helpers too; not of one that is no UTF-8."""
        found = []
        for name, file in sorted(self._files(module).items()):
            source = self._sources.read(file.path)
            folder, _, op = name.rpartition(".")
            level = int(folder[1]) if folder[:2] in LEVELS else 0
            try:
                found.append(KernelSource(op, level, str(file.path), file.sha256, source.data.decode()))
            except UnicodeDecodeError:
                continue
        return tuple(found)

    def _files(self, module: str) -> dict[str, CandidateFile]:
        """Every candidate file in the closure of a module."""
        return {name: self._all[name] for name in self._sources.closure(module) if name in self._all}

    def _read(self, files: Iterable[str]) -> set[str]:
        """These candidate files and those that their code may read by path, with all that these import."""
        found: set[str] = set()
        waiting = set(files)
        while waiting:
            found |= waiting
            said = [self._mentions(name) for name in waiting]
            named = {name for name, path in self._paths.items() if any(mention.reads(path) for mention in said)}
            waiting = {name for module in named for name in self._files(module)} - found
        return found

    def _words(self, files: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self._mentions(name).words for name in self._read(files)))

    def _mentions(self, name: str) -> Mentions:
        if name not in self._said:
            self._said[name] = mentions(self._sources.read(self._all[name].path))
        return self._said[name]

    @cached_property
    def _all(self) -> dict[str, CandidateFile]:
        return {**self.candidates.helpers, **self.candidates.files}

    @cached_property
    def _paths(self) -> dict[str, str]:
        """Each candidate file's path below the directory."""
        directory = self.candidates.directory
        return {name: os.path.relpath(file.path, directory) for name, file in self._all.items()} if directory else {}

    @cached_property
    def _beside(self) -> Beside:
        assert self.candidates.directory is not None
        return Beside(self.candidates.directory, frozenset(self._paths.values()))

    def _replaces(self, name: str) -> bool:
        return name in self.candidates.files or self._baseline.place(name) is not None


def subsumed(graph: ImportGraph, candidates: Candidates, graded: Iterable[str]) -> list[Subsumed]:
    """Return the candidates that no graded module reaches, each with the candidate that dropped it.

    That is the lowest candidate above whose baseline uses it, directly or not, and which itself no longer does.
    """
    reached = frozenset[str]().union(*(graph.reaches(module) for module in graded))
    return [Subsumed(name, _dropped_by(name, graph, candidates)) for name in candidates.files if name not in reached]


def _dropped_by(name: str, graph: ImportGraph, candidates: Candidates) -> str:
    above = [other for other in sorted(candidates.files) if other[:2] > name[:2]]
    return next((o for o in above if name in graph.baseline_reaches(o) and name not in graph.reaches(o)), "")
