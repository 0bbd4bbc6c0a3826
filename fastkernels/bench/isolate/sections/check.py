"""Compares every output of a section with the baseline's on the same inputs: what was skipped, old or late shows.

Tolerances are wide, since calls drawn at random are judged by the rules besides; what is not done is far outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from fastkernels.bench.isolate.sections.kernels import BLOCK, compare, dtypes
from fastkernels.bench.isolate.slots import Slot

RELATIVE, OF_SCALE = 0.06, 0.06
"""An element may differ by this part of the baseline's, and of the root mean square of that output."""

MOST_OFF = 1 / 32
"""Part of an output's elements that may be outside, for outliers of honest kernels: no more work can be left out."""

MOST_OFF_INTEGERS = 1 / 2
"""The same for integers, of which several may be right (a sort's ties)."""

DIMENSIONS = 4
"""Most of an output that is compared."""


@dataclass(frozen=True)
class Leaf:
    """One output of all calls, or one input that calls write to."""

    got: Slot
    """Shape, strides and dtype of one call's."""
    due: Slot
    """The same of the baseline's: shape and dtype are equal."""
    got_at: torch.Tensor
    """int64 [calls]: addresses."""
    due_at: torch.Tensor
    """The same of the baseline's."""
    off: torch.Tensor
    """int32 [calls]: elements outside."""
    scale: float = 0.0
    """Root mean square of the baseline's."""

    @property
    def elements(self) -> int:
        """Of one call."""
        return prod(self.got.shape)

    def compare(self) -> None:
        """Launch the comparison."""
        fill = (1,) * (DIMENSIONS - len(self.got.shape))
        compare[(self.got_at.numel(), -(-self.elements // BLOCK))](
            self.got_at, self.due_at, self.off, self.elements, RELATIVE, OF_SCALE * self.scale,
            *(*fill, *self.got.shape)[1:], *fill, *self.got.stride, *fill, *self.due.stride, BLOCK=BLOCK,
            LIKE=_LIKE[str(self.got.torch_dtype)],
            FLAT=self.got.stride == self.due.stride and not self.got.has_gaps)

    def most_off(self) -> float:
        """Elements of one call that may be outside."""
        return (MOST_OFF if self.got.torch_dtype.is_floating_point else MOST_OFF_INTEGERS) * self.elements


def compare_all(leaves: Sequence[Leaf]) -> None:
    """Launch all comparisons; does not wait for the device."""
    for leaf in leaves:
        leaf.off.zero_()
        leaf.compare()


def undone(leaves: Sequence[Leaf]) -> int | None:
    """The call with most elements outside where that is too many, else None; waits for the device."""
    worst: tuple[float, int] | None = None
    for leaf in leaves:
        most, call = torch.max(leaf.off, dim=0)
        share = float(most) / max(1.0, leaf.elements)
        if float(most) > leaf.most_off() and (worst is None or share > worst[0]):
            worst = share, int(call)
    return None if worst is None else worst[1]


_LIKE: dict[str, Any] = dtypes()  # type: ignore[no-untyped-call]
"""Triton's dtype by the name of torch's; others cannot be compared here."""


def comparable(slot: Slot) -> bool:
    """Whether outputs of this kind can be compared."""
    return str(slot.torch_dtype) in _LIKE and len(slot.shape) <= DIMENSIONS
