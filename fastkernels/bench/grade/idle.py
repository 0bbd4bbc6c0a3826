"""Rows of outputs that nobody reads: those of padding, and those that a token of NaN makes NaN."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fastkernels.bench.grade.leaf import Leaf
from fastkernels.manifest.context import PREFIX


def without_idle_rows(leaf: Leaf, inputs: Mapping[str, Any]) -> Leaf:
    """The output with zeros in such rows, whatever the baseline and the candidate have there; mutated inputs stay.

    An operator clamps a NaN or keeps it, as its instructions have it; what counts is that no other row has any of it.
    """
    slots = inputs.get(PREFIX + "slot_mapping")
    if leaf.before is not None or not leaf.is_float or not leaf.expected.dim():
        return leaf
    idle = leaf.expected.isnan() if slots is None else torch.zeros_like(leaf.expected, dtype=torch.bool)
    if slots is not None and leaf.expected.shape[:1] == slots.shape:
        idle[slots < 0] = True
    expected, baseline, got = (side.masked_fill(idle, 0.0) for side in (leaf.expected, leaf.baseline, leaf.got))
    return replace(leaf, expected=expected, baseline=baseline, got=got)
