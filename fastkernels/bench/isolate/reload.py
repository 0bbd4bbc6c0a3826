"""Other weights for a module that exists: the same elements elsewhere, so that a copy kept of the old ones is wrong.

Small modules get all of each parameter moved along. Of large ones on a CPU only a block of columns of each is: every
row differs then, whichever a call uses, and a fraction of the bytes is touched.
"""

import secrets
from collections.abc import Mapping

import torch
from torch import nn

from fastkernels.bench.isolate.bits import rolled
from fastkernels.bench.isolate.build import state_of

WHOLE_BYTES = 64 * 1024 * 1024
"""Weights of at most this many bytes are moved whole on a CPU; on CUDA all are."""

SHARE = 32
"""One column in this many is moved otherwise, and LEAST_COLUMNS at least."""

LEAST_COLUMNS = 32
"""Narrower parameters, and those of a single row, are moved whole."""

Columns = Mapping[str, tuple[int, int]]
"""First column, and the one behind the last, of each parameter that has changed."""


def move_all(module: nn.Module) -> None:
    """Move each float parameter's elements along by a secret number of places, in place."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.numel() > 1:
                parameter.copy_(rolled(parameter, 1 + secrets.randbelow(parameter.numel() - 1)))


def move_columns(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Exchange a secret block of columns of each float parameter between its rows, in place; which, by name."""
    own = {parameter.data_ptr() for parameter in module.parameters()}
    moved: dict[int, tuple[int, int]] = {}
    found = {}
    for name, tensor in state_of(module).items():
        if tensor.data_ptr() not in own or not tensor.is_floating_point() or tensor.numel() < 2:
            continue
        if tensor.data_ptr() not in moved:
            moved[tensor.data_ptr()] = _moved(tensor)
        found[name] = moved[tensor.data_ptr()]
    return found


def copy_columns(to: torch.Tensor, source: torch.Tensor, columns: tuple[int, int]) -> None:
    """Copy these columns (last dimension), converting the dtype where they differ."""
    with torch.no_grad():
        to[..., columns[0]:columns[1]].copy_(source[..., columns[0]:columns[1]])


def repacks(module: nn.Module) -> bool:
    """Whether some part makes something of its weights once they are loaded."""
    return any(callable(getattr(part, "process_weights_after_loading", None)) for part in module.modules())


def _moved(tensor: torch.Tensor) -> tuple[int, int]:
    """Move part of one tensor; its columns."""
    width = tensor.shape[-1]
    rows = tensor.numel() // width
    if rows == 1 or width <= LEAST_COLUMNS:
        tensor.copy_(rolled(tensor, 1 + secrets.randbelow(tensor.numel() - 1)))
        return 0, width
    count = max(LEAST_COLUMNS, width // SHARE)
    start = secrets.randbelow(width - count + 1)
    block = tensor[..., start:start + count]
    block.copy_(block.reshape(rows, count).roll(1 + secrets.randbelow(rows - 1), 0).view(block.shape))
    return start, start + count
