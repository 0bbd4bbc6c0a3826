"""The modules of one task tree, each file read at most once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastkernels.registry.imports import Imports, read_imports
from fastkernels.registry.source import Source, read_source
from fastkernels.registry.tree import Place, TaskTree


@dataclass
class TaskSources:
    """Reads a task tree's modules on demand; `files` may be shared by several trees over the same baseline."""

    tasks: TaskTree
    """Where the modules lie."""
    files: dict[Path, Source] = field(default_factory=dict)
    """Files read so far."""
    _imports: dict[str, Imports] = field(default_factory=dict)

    def over(self, candidates: Path | None) -> "TaskSources":
        """The same baseline with a candidate directory laid over it."""
        return TaskSources(TaskTree(self.tasks.baseline, candidates), self.files)

    def read(self, path: Path) -> Source:
        """Return the file's source; a candidate's is compiled too, a baseline's is taken to be sound."""
        if path not in self.files:
            self.files[path] = read_source(path, compiles=not path.is_relative_to(self.tasks.baseline))
        return self.files[path]

    def place(self, module: str) -> Place | None:
        """Return where a module lies, None where there is none."""
        return self.tasks.find(module)

    def source(self, module: str) -> Source | None:
        """Return a module's source, None where there is no such module or it has no file."""
        place = self.place(module)
        return None if place is None or place.path is None else self.read(place.path)

    def imports(self, module: str) -> Imports:
        """Return what a module imports; nothing for one without a file."""
        if module not in self._imports:
            place, source = self.place(module), self.source(module)
            self._imports[module] = (
                Imports(frozenset(), frozenset()) if place is None or source is None
                else read_imports(source.tree, module, place.is_package, self.tasks)
            )
        return self._imports[module]

    def closure(self, module: str) -> Iterator[str]:
        """Yield a module and every module of the tree that it imports, directly or not."""
        seen: set[str] = set()
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                yield name
                waiting += sorted(self.imports(name).inside)
