"""The operators of a task tree, found by path and syntax tree."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastkernels.errors import CandidateError
from fastkernels.registry.classes import Found, class_names, class_signature, find_class
from fastkernels.registry.signatures import ClassSignature
from fastkernels.registry.sources import TaskSources
from fastkernels.registry.tree import LEVELS, TaskTree


@dataclass(frozen=True)
class OperatorFile:
    """One operator of the baseline."""

    name: str
    """File stem: `rms_norm`."""
    level: int
    """1 to 4."""
    path: Path
    """The file."""
    module: str
    """Module below the task root: `L1.rms_norm`."""
    classes: Mapping[str, ClassSignature]
    """Public classes of the file that can be called; a replacement has to define each of them."""
    imports: frozenset[str]
    """Modules of the task tree that the file imports."""


def baseline_root() -> Path:
    """Return the folder of the baseline that is installed, or of the checkout."""
    spec = importlib.util.find_spec("fastkernels.tasks.baseline")
    if spec is None or not spec.submodule_search_locations:
        raise CandidateError("fastkernels.tasks.baseline is not installed")
    return Path(spec.submodule_search_locations[0])


def discover(root: str | Path) -> dict[str, OperatorFile]:
    """Return the operators below `root` by module, such as `L1.rms_norm`; files named `_*` are helpers."""
    root = Path(root)
    sources = TaskSources(TaskTree(root))
    return {module: read_operator(sources, module, path) for module, path in operator_paths(root).items()}


def operator_paths(root: Path) -> dict[str, Path]:
    """Return the operators' files by module, by level and name."""
    paths = [path for level in LEVELS for path in sorted((root / level).glob("*.py"))]
    return {f"{path.parent.name}.{path.stem}": path for path in paths if not path.name.startswith("_")}


def read_operator(sources: TaskSources, module: str, path: Path) -> OperatorFile:
    """Read one operator of the baseline that `sources` holds without candidates; CandidateError if it is broken."""
    source = sources.read(path)
    if source.error:
        raise CandidateError(f"baseline operator does not parse: {source.error}")
    classes = {}
    for name in class_names(source.tree):
        definition = find_class(sources, module, name)
        signature = class_signature(definition) if isinstance(definition, Found) else definition
        if isinstance(signature, ClassSignature) and not name.startswith("_"):
            classes[name] = signature
    return OperatorFile(path.stem, int(path.parent.name[1:]), path, module, classes, sources.imports(module).inside)
