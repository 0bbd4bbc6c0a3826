"""The least bytes and operations of a call: an operator's own count, a block's from the operators within it."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade.tree import tensors
from fastkernels.manifest.context import PREFIX
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.op import Op, Work, tensor_bytes


def measure_work(module: nn.Module, inputs: Mapping[str, Any]) -> tuple[tuple[torch.Tensor, ...], Work]:
    """Call the module once on flat inputs, which it may change, and return its outputs and the least work of the call.

    A block that says nothing of its work needs every operation of its operators, its own arguments and outputs once,
    and of the bytes of each operator what is neither passed in nor out: weights, and what it touches of the caches.
    What passes between operators need not move at all where they are fused.
    """
    own = getattr(module, "work", None)
    with torch.inference_mode():
        if callable(own):
            outputs = tuple(tensors(invoke(module, inputs)).values())
            work: Work = own(_named(module, (), inputs) if isinstance(module, Op) else inputs, outputs)
            return outputs, work
        counter = _Counter(_storages(value for name, value in inputs.items() if name.startswith(PREFIX)))
        hooks = [op.register_forward_hook(counter, with_kwargs=True) for op in _operators(module)]
        try:
            outputs = tuple(tensors(invoke(module, inputs)).values())
        finally:
            for hook in hooks:
                hook.remove()
    arguments = [value for name, value in inputs.items()
                 if isinstance(value, torch.Tensor) and not name.startswith(PREFIX)]
    return outputs, Work(counter.bytes + tensor_bytes(*arguments, *outputs), counter.flops)


class _Counter:
    """Sums the work of every operator that is called."""

    def __init__(self, caches: set[int]) -> None:
        self.bytes = 0
        self.flops = 0
        self._caches = caches

    def __call__(self, op: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        assert isinstance(op, Op)
        inputs = _named(op, args, kwargs)
        outputs = tuple(tensors(output).values())
        work = op.work(inputs, outputs)
        passed = [value for value in (*inputs.values(), *outputs)
                  if isinstance(value, torch.Tensor) and _storage(value) not in self._caches]
        self.bytes += max(0, work.bytes - tensor_bytes(*passed))
        self.flops += work.flops


def _named(op: Op, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names of `forward_native`; a `forward` of its own may call them otherwise."""
    if type(op).forward is not Op.forward:
        args, kwargs = tuple(inspect.signature(op.forward).bind(*args, **kwargs).arguments.values()), {}
    return dict(inspect.signature(op.forward_native).bind(*args, **kwargs).arguments)


def _operators(module: nn.Module) -> Iterator[Op]:
    """Every operator that is no part of another one."""
    for part in module.children():
        if isinstance(part, Op):
            yield part
        else:
            yield from _operators(part)


def _storages(values: Any) -> set[int]:
    return {_storage(value) for value in values if isinstance(value, torch.Tensor)}


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
