"""Makes each call of a section wait for the one before: a part of its output is added to the next call's input.

Without it the calls of a section say nothing of each other, and a process that knows all of their inputs could make
many of them at once, in one launch.
"""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.bench.isolate.tree import describe

SHARE = 0.5
"""What is added: this part of the output's first row."""


def linked_input(inputs: Mapping[str, Any]) -> str | None:
    """The input that calls are linked by: the first of floats whose first row is dense."""
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() and _row(value) is not None:
            return name
    return None


def first_float(output: Any) -> torch.Tensor | None:
    """The first tensor of floats in an output."""
    leaves: list[torch.Tensor] = []
    describe(output, leaves)
    return next((leaf for leaf in leaves if leaf.is_floating_point() and leaf.numel()), None)


def add_link(value: torch.Tensor, output: torch.Tensor, narrow: bool) -> None:
    """Add the first row of `output`, or with `narrow` its first element, to the beginning of an input, in place."""
    row = _row(value)
    assert row is not None
    part = output[0] if output.dim() > 1 else output
    while part.dim() > 1 and (narrow or part.numel() > row.numel()):
        part = part[0]
    if part.dim() <= 1:
        part = part.reshape(-1)[:1 if narrow else row.numel()]
    with torch.inference_mode():
        row[:part.numel()].view(part.shape).add_(part, alpha=SHARE)


def _row(value: torch.Tensor) -> torch.Tensor | None:
    row = value[0] if value.dim() > 1 else value
    return row.view(-1) if row.is_contiguous() else None
