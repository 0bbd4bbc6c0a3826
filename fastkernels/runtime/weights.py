"""Fits a checkpoint's tensors into a model's parameters: which goes where, whole or stacked with others."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastkernels.errors import WeightsError

LISTED = 5
"""Tensors that a message lists."""
SCALES = (".weight_scale", ".weight_scale_inv", ".input_scale")
"""How names of scales end that quantized weights come with."""

Shard = tuple[Any, ...]
"""Which part of a parameter a tensor is: ("q",), (0,), ("w1", 3); empty where it is the whole."""


@dataclass(frozen=True)
class Stacked:
    """A parameter that is made of several of the checkpoint's tensors."""

    name: str
    """Part of the parameter's name, at dots: `qkv_proj`, `experts.w13_weight`."""
    parts: Mapping[str, Shard]
    """What stands in its place in the checkpoint, and the shard that this is: {"q_proj": ("q",), ...}."""


@dataclass(frozen=True)
class Target:
    """Where one of the checkpoint's tensors goes."""

    name: str
    """Name of the parameter."""
    parameter: nn.Parameter
    """The parameter."""
    shard: Shard
    """Part of it."""

    def shape(self) -> tuple[int, ...] | None:
        """Shape in the checkpoint, before sharding; None where the parameter's loader does not say."""
        shape = getattr(self.parameter, "checkpoint_shape", None)
        if shape is not None:
            return tuple(shape(*self.shard))
        return None if hasattr(self.parameter, "weight_loader") else tuple(self.parameter.shape)

    def load(self, tensor: torch.Tensor) -> None:
        """Copy the tensor, or this rank's part of it."""
        loader = getattr(self.parameter, "weight_loader", None)
        with torch.no_grad():
            if loader is None:
                self.parameter.copy_(tensor)
            else:
                loader(self.parameter, tensor, *self.shard)


def set_weight_loader(
    parameter: nn.Parameter, loader: Callable[..., None], shape: Callable[..., Sequence[int]]
) -> None:
    """Have a parameter loaded by `loader(parameter, tensor, *shard)`; `shape(*shard)` is the unsharded tensor's."""
    parameter.weight_loader = loader  # type: ignore[attr-defined]
    parameter.checkpoint_shape = shape  # type: ignore[attr-defined]


def targets(module: nn.Module, stacked: Sequence[Stacked] = ()) -> dict[str, Target]:
    """Every tensor that the module needs, by its name in the checkpoint; a parameter of two names has its first."""
    found = {}
    for name, parameter in module.named_parameters():
        for source, shard in _sources(name, stacked):
            found[source] = Target(name, parameter, shard)
    return found


def _sources(name: str, stacked: Sequence[Stacked]) -> Iterator[tuple[str, Shard]]:
    dotted = f".{name}."
    for stack in stacked:
        if f".{stack.name}." in dotted:
            for part, shard in stack.parts.items():
                yield dotted.replace(f".{stack.name}.", f".{part}.")[1:-1], shard
            return
    yield name, ()


def load_weights(
    module: nn.Module,
    weights: Iterable[tuple[str, torch.Tensor]],
    stacked: Sequence[Stacked] = (),
    rename: Callable[[str], str | None] = lambda name: name,
) -> set[str]:
    """Load every tensor and return the names of the parameters.

    `rename` turns a checkpoint's name into the model's, or into None where the model has no use for the tensor.
    WeightsError where a tensor has the wrong shape, is surplus, given twice or missing.
    """
    needed = targets(module, stacked)
    loaded: dict[str, str] = {}
    surplus = []
    for source, tensor in weights:
        name = rename(source)
        if name is None:
            continue
        if name in loaded:
            raise WeightsError(f"{source!r} is given twice, first as {loaded[name]!r}", source)
        if name not in needed:
            surplus.append(source)
            continue
        _load(source, tensor, needed[name])
        loaded[name] = source
    missing = [name for name in needed if name not in loaded]
    if surplus or missing:
        raise _misfit(surplus, missing, needed)
    return {target.name for target in needed.values()}


def finish_weights(module: nn.Module) -> None:
    """Call `process_weights_after_loading` of every part that has one, inner parts first.

    As vLLM does once weights are there: parts repack them, or derive others from them.
    """
    for part in reversed(list(module.modules())):
        process = getattr(part, "process_weights_after_loading", None)
        if callable(process):
            process()


def _load(source: str, tensor: torch.Tensor, target: Target) -> None:
    expected = target.shape()
    if expected is not None and tuple(tensor.shape) != expected:
        raise WeightsError(
            f"{source!r}: shape {list(tensor.shape)} found, {list(expected)} expected for {target.name}", source
        )
    target.load(tensor)


def _misfit(surplus: list[str], missing: list[str], needed: Mapping[str, Target]) -> WeightsError:
    """All that is surplus and missing in one message, as a wrong name is both."""
    lines = []
    if surplus:
        # The likeliest meant tensor is one that is missing.
        named = [f"{name!r}{_nearest(name, missing or list(needed))}" for name in surplus[:LISTED]]
        lines.append(f"{len(surplus)} tensors that the model has no place for: {_listed(named, len(surplus))}")
    scale = next((name for name in surplus if name.endswith(SCALES)), None)
    if scale is not None:
        lines.append(f"{scale!r} is the scale of a quantized weight: quantized weights are not supported, use a "
                     "checkpoint in bfloat16")
    if missing:
        named = [repr(name) for name in missing[:LISTED]]
        lines.append(f"{len(missing)} tensors that the model needs are missing: {_listed(named, len(missing))}")
    return WeightsError("; ".join(lines), surplus[0] if surplus else "")


def _nearest(name: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(named: list[str], count: int) -> str:
    return ", ".join(named) + (f" and {count - len(named)} more" if count > len(named) else "")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build float parameters in this dtype within the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
