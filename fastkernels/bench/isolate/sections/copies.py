"""A module on several copies of its weights, so that no call finds those of the call before in the cache."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from fastkernels.bench.isolate.bits import same_bits
from fastkernels.bench.isolate.build import state_of
from fastkernels.bench.isolate.sections.side import CannotBeTimedError
from fastkernels.runtime.weights import finish_weights

LOADING_S = 10.0
"""Longest that loading copies may take, where each needs a module of its own."""

Moved = list[tuple[torch.Tensor, torch.Tensor]]
"""Parameters with the data that they had."""

Weights = Mapping[str, torch.Tensor]


def can_be_moved(module: nn.Module, copy: Weights) -> bool:
    """Whether the module's parameters are just these weights: nothing but their addresses differs."""
    held = dict(module.named_parameters())
    return held.keys() == copy.keys() and all(_may_stand_for(copy[name], held[name]) for name in held)


def moved_calls(module: nn.Module, copies: Sequence[Weights]) -> tuple[Moved, list[Callable[..., object]]]:
    """The module as called on each copy, and what its parameters held before."""
    held = dict(module.named_parameters())
    calls = [called_on(module, [(held[name], view) for name, view in copy.items()]) for copy in copies]
    return [(tensor, tensor.data) for tensor in held.values()], calls


def modules_on(make: Callable[[], nn.Module], copies: Sequence[Weights]) -> list[Callable[..., object]]:
    """A module for each copy, for those that keep what they make of their weights; CannotBeTimedError."""
    modules: list[Callable[..., object]] = []
    end = time.monotonic() + LOADING_S
    for copy in copies:
        if time.monotonic() > end:
            raise CannotBeTimedError(f"{len(copies)} copies of its weights take longer to load than {LOADING_S:g} s")
        module = make()
        with torch.no_grad():
            for name, tensor in state_of(module).items():
                tensor.copy_(copy[name])
        finish_weights(module)
        modules.append(module)
    return modules


def called_on(call: Callable[..., object], moves: Moved) -> Callable[..., object]:
    """`call` with these tensors where the second of each pair lies."""

    def moved(**inputs: object) -> object:
        for tensor, view in moves:
            tensor.data = view
        return call(**inputs)

    return moved


def _may_stand_for(view: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether nothing but the address differs."""
    plain = type(tensor) in (torch.Tensor, nn.Parameter, nn.Buffer)
    return (plain and view.dtype == tensor.dtype and view.shape == tensor.shape and view.stride() == tensor.stride()
            and same_bits(view, tensor))
