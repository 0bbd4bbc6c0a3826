"""Recorded calls: the shapes that a run of the whole model had, and the values that it stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from fastkernels.bench.grade.draws import Draw
from fastkernels.errors import ManifestError, shown
from fastkernels.manifest.scenario import Scenario

FILES_KEPT = 4
"""Files whose tensors stay in memory."""


@dataclass(frozen=True)
class Recorded:
    """One recorded call."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of all inputs that are tensors, in the order of the call."""
    values: Mapping[str, Any]
    """Plain arguments and the tensors whose values are stored; the others are drawn."""

    @property
    def names(self) -> list[str]:
        """Every input: what has to be drawn comes last, since it may follow from the rest."""
        return [*self.values, *(name for name in self.shapes if name not in self.values)]


def recorded(scenario: Scenario, draw: Draw, device: torch.device) -> Recorded | None:
    """The call to repeat in this draw: normal ones at the record's token count; None in all others.

    ManifestError where the file is gone, was changed, or lacks a tensor.
    """
    call = scenario.golden
    if call is None or draw.hard != "normal" or draw.tokens != call["tokens"]:
        return None
    held = _tensors(call["file"], call["sha256"])
    shapes: dict[str, tuple[int, ...]] = {}
    values: dict[str, Any] = {}
    for name, spec in call["inputs"].items():
        if not spec["dtype"]:
            values[name] = spec["value"]
            continue
        shapes[name] = tuple(spec["shape"])
        if spec["stored"]:
            values[name] = _stored(held, f"{call['record']}/{name}", spec, call["file"]).to(device, copy=True)
    return Recorded(shapes, values)


def _stored(held: Mapping[str, torch.Tensor], key: str, spec: Mapping[str, Any], file: str) -> torch.Tensor:
    if key not in held:
        raise ManifestError(f"{shown(Path(file))}: no tensor {key!r} in it, though the index says so")
    tensor = held[key]
    found = (str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
    if found != (spec["dtype"], list(spec["shape"])):
        raise ManifestError(f"{shown(Path(file))}: {key}: found {found[0]} {found[1]}, the index has {spec['dtype']} "
                            f"{spec['shape']}")
    return tensor


@lru_cache(maxsize=FILES_KEPT)
def _tensors(file: str, sha256: str) -> dict[str, torch.Tensor]:
    """A file's tensors, which nobody writes to."""
    path = Path(file)
    try:
        from safetensors.torch import load
    except ImportError:
        raise ManifestError(
            f"{shown(path)}: reading it needs safetensors, which comes with transformers: pip install safetensors"
        ) from None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{shown(path)}: golden data cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ManifestError(f"{shown(path)}: golden data changed since the manifest was read")
    return load(data)
