"""A model in higher precision without a second copy of its weights: each part has its own while it runs."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def can_go_by_parts(module: nn.Module, least_bytes: int) -> bool:
    """Whether this is a model of layers with that much weight."""
    is_model = any(isinstance(part, nn.ModuleList) for part in module.modules())
    return is_model and sum(parameter.nbytes for parameter in module.parameters()) > least_bytes


def by_parts(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy that shares the module's weights; each layer, and each part beside them, computes in `dtype`.

    A part's weights and buffers are of `dtype` from the start of its call to the end. What belongs to no part is so for
    good.
    """
    tensors = [*module.parameters(), *module.buffers()]
    copied: nn.Module = copy.deepcopy(module, {id(tensor): _sharing(tensor) for tensor in tensors})
    inner = set()
    for part in _parts(copied):
        _widen_while_called(part, dtype)
        inner |= set(part.modules())
    for owner in copied.modules():
        if owner not in inner:
            for tensor in _floats(owner, recurse=False):
                tensor.data = tensor.data.to(dtype)
    return copied


def _sharing(tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor on the same memory."""
    data = tensor.detach()
    return nn.Parameter(data, requires_grad=False) if isinstance(tensor, nn.Parameter) else data


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Every layer of a list, and the largest modules beside lists."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        elif any(isinstance(part, nn.ModuleList) for part in child.modules()):
            yield from _parts(child)
        else:
            yield child


def _widen_while_called(part: nn.Module, dtype: torch.dtype) -> None:
    held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def before(*_: Any) -> None:
        for tensor in _floats(part, recurse=True):
            held.append((tensor, tensor.data))
            tensor.data = tensor.data.to(dtype)

    def after(*_: Any) -> None:
        for tensor, narrow in held:
            tensor.data = narrow
        held.clear()

    part.register_forward_pre_hook(before)
    part.register_forward_hook(after, always_call=True)


def _floats(module: nn.Module, recurse: bool) -> Iterator[torch.Tensor]:
    for tensor in (*module.parameters(recurse), *module.buffers(recurse)):
        if tensor.is_floating_point():
            yield tensor
