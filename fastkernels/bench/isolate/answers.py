"""Reads what a candidate's process answers to a call, with distrust: every slot and node is checked."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from fastkernels.bench.grade import CallOutcome
from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.service import private_copy
from fastkernels.bench.isolate.slots import Slot
from fastkernels.bench.isolate.tree import rebuild


def read_answer(answer: Message, outputs: Arena, inputs: Mapping[str, Any], damaged: str | None) -> CallOutcome:
    """What an answer says of a call; ProtocolError, KeyError, TypeError or ValueError where it says nothing.

    inputs: as they lie in the arena after the call. damaged: the input beside which memory was written to.

    Read means copied, before any reference is computed: the candidate may still write where it lay. On CUDA its inputs,
    caches of gigabytes among them, are left where they are.
    """
    leaves = [leaf if leaf.is_meta else leaf.clone() for leaf in _leaves(answer, outputs)]
    used: set[int] = set()
    tree = rebuild(answer["tree"], leaves, used)
    if len(used) != len(leaves):
        raise ProtocolError("a tree that lacks some of the outputs")
    after = {name: private_copy(value) if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value
             for name, value in inputs.items()}
    return CallOutcome(outputs=tree, inputs_after=after, aliases=answer["aliases"],
                       weights_changed=[*answer["weights_changed"]], structure=answer["tree"],
                       canaries=[*([] if damaged is None else [damaged.rpartition("/")[2]]),
                                 *answer.get("canaries", [])])


def _leaves(answer: Message, outputs: Arena) -> list[torch.Tensor]:
    """The tensors that the candidate says its outputs are."""
    if answer["slots"] is None:
        return [_unseen(shape) for shape in answer["shapes"]]
    slots = [Slot.from_dict(data) for data in answer["slots"]]
    for slot in slots:
        if prod(slot.shape) * slot.itemsize != slot.extent_bytes:
            raise ProtocolError(f"{slot.name}: an output whose elements overlap or lie apart")
    return [outputs.tensor(slot) for slot in slots]


def _unseen(data: Any) -> torch.Tensor:
    """A tensor without contents, for an output too large to be right."""
    shape, dtype = data
    slot = Slot.from_dict({"name": "output", "offset": 0, "shape": shape, "stride": [0] * len(shape), "dtype": dtype})
    return torch.empty(slot.shape, dtype=slot.torch_dtype, device="meta")
