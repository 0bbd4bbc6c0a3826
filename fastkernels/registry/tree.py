"""Where the modules of the task tree lie: a candidate directory laid over the baseline."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEVELS = ("L1", "L2", "L3", "L4")
"""Folders of operators: kernels, blocks, decoder layers, models."""


@dataclass(frozen=True)
class Place:
    """What one module name stands for."""

    path: Path | None
    """Its file; a package's `__init__.py`, None for a package without one."""
    is_package: bool
    """True for a folder."""
    is_candidate: bool
    """True where the file lies in the candidate directory."""


@dataclass(frozen=True)
class TaskTree:
    """Two roots with one name space; import graph and overlay both find modules here, so that they agree.

    A module is named by its path below the root: `L1.rms_norm`, `L1._common`; the root itself is the empty name.
    """

    baseline: Path
    """Root of the baseline, with folders L1 to L4."""
    candidates: Path | None = None
    """Root of the candidates, laid out alike."""

    def find(self, module: str) -> Place | None:
        """Return the place of a module; the candidate's file wins over the baseline's."""
        parts = module.split(".") if module else []
        if "__pycache__" in parts or "__init__" in parts:
            return None
        for root in self._roots():
            place = self._below(root, parts)
            if place:
                return place
        return None

    def _roots(self) -> list[Path]:
        return [self.baseline] if self.candidates is None else [self.candidates, self.baseline]

    def _below(self, root: Path, parts: list[str]) -> Place | None:
        is_candidate = root is self.candidates
        folder = root.joinpath(*parts)
        # The packages of the tree itself are the baseline's: a candidate's `__init__.py` there has no effect.
        if folder.is_dir() and (not is_candidate or is_helper(parts)):
            init = folder / "__init__.py"
            return Place(init if init.is_file() else None, is_package=True, is_candidate=is_candidate)
        file = folder.parent / f"{folder.name}.py"
        if parts and file.is_file():
            return Place(file, is_package=False, is_candidate=is_candidate)
        return None


def is_helper(parts: list[str] | tuple[str, ...]) -> bool:
    """True for `_common`, `L1._common` and all below a folder such as `_shared`: no operator, but importable."""
    return any(part.startswith("_") and not part.startswith("__") for part in parts)


def python_files(root: Path) -> Iterator[Path]:
    """Yield every Python file below `root`, sorted, hidden folders and `__pycache__` left out, links followed."""
    seen: set[Path] = set()

    def walk(folder: Path) -> Iterator[Path]:
        if folder.resolve() in seen:
            return
        seen.add(folder.resolve())
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith(".") and path.name != "__pycache__":
                yield from walk(path)
            elif path.suffix == ".py" and path.is_file() and not path.name.startswith("."):
                yield path

    yield from walk(root)
