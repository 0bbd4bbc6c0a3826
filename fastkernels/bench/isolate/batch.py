"""A batch: one call on each of several sets of inputs, every output kept until all are done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from fastkernels.bench.isolate.tree import Node, describe
from fastkernels.runtime.invoke import invoke


@dataclass(frozen=True)
class Called:
    """What the calls of a batch returned."""

    outputs: list[Any]
    """What each call returned."""
    trees: list[Node]
    """Description of each call's outputs."""
    leaves: dict[str, torch.Tensor]
    """Their tensors; `2/0` is the first tensor of the third call."""


def call_batch(module: Callable[..., Any], batch: Sequence[Mapping[str, Any]]) -> Called:
    """Call `module` on each set of inputs in turn; does not wait for the device."""
    with torch.inference_mode():
        outputs = [invoke(module, inputs) for inputs in batch]
    trees: list[Node] = []
    leaves: dict[str, torch.Tensor] = {}
    for number, output in enumerate(outputs):
        found: list[torch.Tensor] = []
        trees.append(describe(output, found))
        leaves |= {f"{number}/{place}": leaf for place, leaf in enumerate(found)}
    return Called(outputs, trees, leaves)


def hand_over(called: Called, batch: Sequence[Mapping[str, Any]]) -> Called:
    """The same with nothing computed: each call returns a copy of what it returned before."""
    outputs = iter(called.outputs)
    return call_batch(lambda **_: copied(next(outputs)), batch)


def copied(outputs: Any) -> Any:
    """The same tree with tensors in memory of their own."""
    return tree_map_only(torch.Tensor, torch.clone, outputs)
