"""The safetensors files of one model: which tensor lies in which file, and reading them one at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fastkernels.errors import WeightsError, shown

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Checkpoint:
    """A directory with one safetensors file, or several and their index."""

    def __init__(self, directory: Path) -> None:
        """WeightsError where there are no files, one is missing or broken, or safetensors is not installed."""
        self.directory = directory
        self.file_of: dict[str, Path] = {}
        for file in self._files():
            with _open(file) as opened:
                self.file_of.update(dict.fromkeys(opened.keys(), file))
        self._check_index()

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, tensor) file by file; tensors are read when they are asked for."""
        for file in dict.fromkeys(self.file_of.values()):
            with _open(file) as opened:
                for name in opened.keys():  # noqa: SIM118 - no dictionary: a file's keys are a method
                    yield name, opened.get_tensor(name)

    def _index(self) -> dict[str, str]:
        path = self.directory / INDEX
        if not path.is_file():
            return {}
        try:
            weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
            return {str(name): str(file) for name, file in weight_map.items()}
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{shown(path)}: not an index of safetensors files: {error!r}") from error

    def _files(self) -> list[Path]:
        named = sorted({self.directory / file for file in self._index().values()})
        for file in named:
            if not file.is_file():
                raise WeightsError(f"{shown(file)}: no such file, though {INDEX} names it")
        if named:
            return named
        if (self.directory / SINGLE).is_file():
            return [self.directory / SINGLE]
        found = sorted(self.directory.glob("*.safetensors"))
        if not found:
            others = sorted(path.name for path in self.directory.glob("*.bin"))
            hint = f"; {others[0]} is of another format" if others else ""
            raise WeightsError(f"{shown(self.directory)}: no safetensors files{hint}")
        return found

    def _check_index(self) -> None:
        for name, file in self._index().items():
            if self.file_of.get(name) != self.directory / file:
                raise WeightsError(f"{shown(self.directory / file)}: no tensor {name!r} in it, though {INDEX} says so",
                                   name)


def _open(file: Path) -> Any:
    """The opened file, a context manager."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise WeightsError(
            f"{shown(file)}: reading it needs safetensors, which comes with transformers: pip install safetensors"
        ) from None
    try:
        return safe_open(str(file), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{shown(file)}: not a safetensors file: {error}") from error
