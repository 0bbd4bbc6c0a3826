"""The memory that one side of a timed section works on: copies of the weights, and sets of inputs one after another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.slots import Slot, end_of, plan_slots


@dataclass(frozen=True)
class Layout:
    """Where everything lies, alike in both sides' rooms. Bytes from the start of the room."""

    weights: tuple[Slot, ...]
    """Parameters of the first copy."""
    copies: int
    copy_bytes: int
    inputs: tuple[Slot, ...]
    """Tensors of the first set."""
    sets: int
    set_bytes: int
    literals: Mapping[str, Any]
    """Inputs that are no tensors, the same in every set."""
    names: tuple[str, ...]
    """All inputs in the order of the call."""
    narrow: bool = False
    """Whether calls are linked by one element alone (`link`): a whole row would undo what inputs prescribe."""

    @property
    def size(self) -> int:
        """Bytes of the whole room."""
        return self.copies * self.copy_bytes + self.sets * self.set_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"weights": [slot.to_dict() for slot in self.weights], "copies": self.copies,
                "copy_bytes": self.copy_bytes, "inputs": [slot.to_dict() for slot in self.inputs], "sets": self.sets,
                "set_bytes": self.set_bytes, "literals": dict(self.literals), "names": list(self.names),
                "narrow": self.narrow}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Layout":
        """What `to_dict` made."""
        slots = {key: tuple(map(Slot.from_dict, data[key])) for key in ("weights", "inputs")}
        return cls(**{**data, **slots, "names": tuple(data["names"])})


def plan(
    weights: Mapping[str, torch.Tensor], copies: int, inputs: Mapping[str, Any], sets: int, narrow: bool,
) -> Layout:  # fmt: skip
    """Lay `copies` of these weights out, and `sets` of inputs like these behind them."""
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    weight_slots, input_slots = plan_slots(weights), plan_slots(tensors)
    copies = copies if weights else 0
    copy_bytes, first = end_of(weight_slots), copies * end_of(weight_slots)
    return Layout(
        weights=tuple(weight_slots), copies=copies, copy_bytes=copy_bytes, sets=sets, set_bytes=end_of(input_slots),
        inputs=tuple(replace(slot, offset=slot.offset + first) for slot in input_slots), names=tuple(inputs),
        literals={name: value for name, value in inputs.items() if name not in tensors}, narrow=narrow)


class Room:
    """A layout over an arena."""

    def __init__(self, arena: Arena, layout: Layout) -> None:
        self._arena, self.layout = arena, layout

    def set_of(self, number: int) -> dict[str, Any]:
        """Inputs of one call."""
        shift = number * self.layout.set_bytes
        found = {slot.name: self._arena.tensor(replace(slot, offset=slot.offset + shift))
                 for slot in self.layout.inputs}
        return {name: found[name] if name in found else self.layout.literals[name] for name in self.layout.names}

    def weights_of(self, copy: int) -> dict[str, torch.Tensor]:
        """One copy of the weights."""
        shift = copy * self.layout.copy_bytes
        return {slot.name: self._arena.tensor(replace(slot, offset=slot.offset + shift))
                for slot in self.layout.weights}

    def stack(self, name: str) -> torch.Tensor:
        """One input of all sets: [sets, *shape], strides kept."""
        slot = next(slot for slot in self.layout.inputs if slot.name == name)
        return self._arena.tensor(replace(slot, shape=(self.layout.sets, *slot.shape),
                                          stride=(self.layout.set_bytes // slot.itemsize, *slot.stride)))

    def span(self) -> tuple[int, int]:
        """First address and bytes."""
        return self._arena.address, self.layout.size

    def words(self) -> torch.Tensor:
        """The whole room as int64."""
        return self._arena.bytes(self.layout.size).view(torch.int64)
