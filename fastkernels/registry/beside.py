"""Files below a candidate directory that no import names and that a candidate can read all the same.

CUDA sources, headers, data, libraries, Python files loaded by path: they are part of a kernel as its module is, so they
belong into its hash.
"""

import ast
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fastkernels.registry.source import Source
from fastkernels.registry.tree import LEVELS

WHOLE_BYTES = 64 * 1024**2
"""Files up to this size are hashed whole, of larger ones SAMPLES pieces, their size and their time of change."""

SAMPLES = 64
SAMPLE_BYTES = 1024**2
MOST_FILES = 20_000
"""Of more files only names, sizes and times of change count."""

NEVER = frozenset({"__pycache__", ".git", ".hg", ".svn", ".cache", ".venv", ".idea", ".vscode", ".ipynb_checkpoints",
                   ".pytest_cache", ".mypy_cache", ".ruff_cache"})
"""Folders that tools keep for themselves."""

BUILDS = frozenset({"build", "dist", "CMakeFiles"})
"""Folders that compilers fill: they count where the candidate's code names them."""

_EDITORS = (".swp", ".swo", "~", ".DS_Store")
_LISTERS = frozenset({"glob", "iglob", "rglob", "iterdir", "listdir", "scandir", "walk", "fwalk", "walk_packages",
                      "iter_modules"})
_IMPORTERS = frozenset({"import_module", "__import__"})

Stamp = tuple[int, ...]
"""What changes whenever a file does: device, inode, size, times of change."""


def files_below(root: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield path below `root` and stamp of every regular file, links followed; not those in NEVER, nor of editors."""
    waiting, seen = [""], _identity(root)
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError:  # gone, or not to be read, by a candidate either
            continue
        for entry in entries:
            try:
                found = entry.stat()
            except OSError:  # a link to nothing
                continue
            path = f"{folder}{entry.name}"
            if stat.S_ISDIR(found.st_mode):
                if entry.name not in NEVER and (found.st_dev, found.st_ino) not in seen:  # links may go round
                    seen.add((found.st_dev, found.st_ino))
                    waiting.append(f"{path}/")
            elif stat.S_ISREG(found.st_mode) and not entry.name.endswith(_EDITORS):
                yield path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _identity(folder: Path) -> set[tuple[int, int]]:
    try:
        found = folder.stat()
    except OSError:
        return set()
    return {(found.st_dev, found.st_ino)}


@dataclass(frozen=True)
class Mentions:
    """What the code of one file says of other files."""

    words: frozenset[str]
    """Parts of paths among its strings, docstrings left out, and of absolute imports: `build`, `_common.py`."""
    finds_any: bool
    """Whether it looks into folders or puts names together, so that it may read any Python file."""

    def reads(self, path: str) -> bool:
        """Whether it may read this Python file, given by its path below the directory of candidates."""
        parts = Path(path).with_suffix("").parts
        return self.finds_any or any(part in self.words or f"{part}.py" in self.words
                                     for part in parts if part not in LEVELS)


def mentions(source: Source) -> Mentions:
    """Read a file's syntax tree."""
    texts, names, absolute = _strings_and_names(source.tree)
    words = {part for text in (*texts, *absolute) for part in re.split(r"[/\\\s]+", text) if part}
    return Mentions(frozenset(words), bool(names & _LISTERS) or _puts_names_together(source.tree))


@dataclass(frozen=True)
class Beside:
    """The files of one candidate directory that are no modules; `modules` are the paths of those, below it."""

    directory: Path
    """The directory."""
    modules: frozenset[str]
    """Files that imports account for."""
    _hashes: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def lines(self, words: frozenset[str]) -> list[str]:
        """`path hash` of each, sorted; those in a folder of BUILDS only where that is among `words`."""
        unnamed = BUILDS - words
        return sorted(f"{path} {self._hash(path)}" for path in self._stamps
                      if path not in self.modules and not unnamed & set(path.split("/")[:-1]))

    @cached_property
    def _stamps(self) -> dict[str, Stamp]:
        return dict(files_below(self.directory))

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = content_hash(self.directory / path, self._stamps[path],
                                              len(self._stamps) <= MOST_FILES)
        return self._hashes[path]


def content_hash(path: Path, stamp: Stamp, whole: bool = True) -> str:
    """Hash of a file's content; of a large one of samples, size and time of change, which stand for it if not whole."""
    _, _, size, changed, _ = stamp
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            if whole and size <= WHOLE_BYTES:
                digest.update(file.read(WHOLE_BYTES + 1))
                return digest.hexdigest()
            for index in range(SAMPLES if whole else 0):
                file.seek((size - SAMPLE_BYTES) * index // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    except OSError as error:  # not to be read, or gone since
        digest.update(str(error.errno).encode())
    digest.update(f"{size} {changed}".encode())
    return digest.hexdigest()


def _strings_and_names(tree: ast.Module) -> tuple[list[str], set[str], set[str]]:
    """Strings but docstrings, names that are used, and parts of absolute imports, which a changed sys.path may find."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts: list[str] = []
    names: set[str] = set()
    absolute: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            texts.append(node.value)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Import):
            absolute.update(part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update(alias.name for alias in node.names)
            absolute.update((node.module or "").split("."))
    return texts, names, absolute


def _puts_names_together(tree: ast.Module) -> bool:
    """Whether a module is imported, or a Python file named, by a name that is not written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _IMPORTERS and not (node.args and isinstance(node.args[0], ast.Constant)):
                return True
        joins = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Div))
        if any(isinstance(part, ast.Constant) and str(part.value).endswith(".py") and (joins or part.value == ".py")
               for part in ast.iter_child_nodes(node)):
            return True
    return False
