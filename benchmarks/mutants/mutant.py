"""What a mutant is: one file of the baseline with one thing wrong."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastkernels.registry import baseline_root

LEVELS = (1, 2, 3)
"""Levels that are mutated: level 4 is whole models."""


@dataclass(frozen=True)
class Edit:
    """Bytes of a file to be replaced."""

    start: int
    """First byte."""
    end: int
    """Byte after the last."""
    text: str
    """What takes their place."""

    def apply(self, source: bytes) -> bytes:
        """The file after the edit."""
        return source[: self.start] + self.text.encode() + source[self.end :]


@dataclass(frozen=True)
class Mutant:
    """One file with one thing wrong."""

    module: str
    """The module that is changed: `L1.rms_norm`."""
    kind: str
    """What is wrong, in two words: `wrong bound`, `dropped call`."""
    change: str
    """Where, and the line before and after: `forward_native: x + 1 => x - 1`. With the module it names the mutant."""
    source: str
    """Text of the whole file."""
    origin: str
    """`generic` (made by rule), `domain` (written by hand) or `copy` (unchanged)."""
    cuda_only: bool = False
    """Whether it is in code that only CUDA runs."""

    @property
    def id(self) -> str:
        """Its name in logs and tables."""
        return f"{self.module} {self.change}"

    @property
    def sha256(self) -> str:
        """Hash of its text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def level(self) -> int:
        """Level of its module."""
        return int(self.module[1])

    @property
    def devices(self) -> tuple[str, ...]:
        """Where its code runs: a native path of level 1 on a CPU alone, blocks and layers everywhere."""
        return ("cuda",) if self.cuda_only else ("cpu",) if self.level == 1 else ("cpu", "cuda")

    @property
    def path(self) -> Path:
        """Where the file lies below a directory of candidates."""
        folder, _, name = self.module.partition(".")
        return Path(folder) / f"{name}.py"


def read_baseline(module: str) -> bytes:
    """Source of a module of the baseline."""
    folder, _, name = module.partition(".")
    return (baseline_root() / folder / f"{name}.py").read_bytes()


def described(source: bytes, edit: Edit) -> str:
    """The changed lines before and after, without their outer and repeated space."""
    start = source.rfind(b"\n", 0, edit.start) + 1
    end = source.find(b"\n", edit.end)
    end = len(source) if end < 0 else end
    before = source[start:end].decode()
    after = source[start : edit.start].decode() + edit.text + source[edit.end : end].decode()
    return f"{' '.join(before.split())} => {' '.join(after.split())}"


def different(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Each file once, by its text: two rules may make the same change."""
    found: dict[tuple[str, str], Mutant] = {}
    for mutant in mutants:
        found.setdefault((mutant.module, mutant.source), mutant)
    return list(found.values())
