"""How far from the oracle an output may lie, by its dtype; reasons and measurements are in docs/correctness.md."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Limits:
    """Tolerances of one dtype."""

    atol: float
    """Absolute part of the tolerance of an element, at unit scale."""
    rtol: float
    """Relative part of the tolerance of an element."""
    floor: float
    """Relative L2 error of a whole tensor that is always allowed."""
    row_floor: float
    """Relative L2 error of one row (last dimension) that is always allowed."""
    tiny: float
    """Magnitude below which a result may be flushed to zero or lose all its digits."""


LIMITS: dict[torch.dtype, Limits] = {
    torch.float64: Limits(atol=1e-9, rtol=1e-9, floor=1e-10, row_floor=1e-9, tiny=2.3e-308),
    torch.float32: Limits(atol=1e-4, rtol=1e-4, floor=2e-5, row_floor=1e-4, tiny=1.2e-38),
    torch.float16: Limits(atol=2e-3, rtol=2e-3, floor=5e-4, row_floor=1e-3, tiny=6.0e-8),
    torch.bfloat16: Limits(atol=1e-2, rtol=1.6e-2, floor=4e-3, row_floor=8e-3, tiny=1.2e-38),
    torch.float8_e4m3fn: Limits(atol=0.16, rtol=0.25, floor=0.06, row_floor=0.12, tiny=2.0e-3),
    torch.float8_e5m2: Limits(atol=0.32, rtol=0.5, floor=0.12, row_floor=0.25, tiny=1.6e-5),
}
"""Limits of every float dtype that is graded."""

SCALE_FACTOR = 2.0
"""A tensor's relative L2 error may be this many times the baseline's own, where that is more than the floor."""

ROW_FACTOR = 4.0
"""The same for one row, where chance counts for more."""

BASELINE_FACTOR = 4.0
"""The baseline's own error must lie within this many floors, or the task is no measure."""


COMPOSED_BASELINE_FACTOR = 8.0
"""The same for blocks and layers, which round ten times and more: up to 1.1e-2 in bf16, measured on a CPU."""

COMPOSED_SPREAD = 8.0
"""In blocks and layers an element may be off by this many times the baseline's own error (root mean square of its row)
beside atol and rtol. Each rounding between their operators spreads over whole rows of the output as noise near to
normal, of which the largest of 1e6 to 1e8 values is 5 to 6 times the root mean square; the candidate's own may be twice
the baseline's by the rule for tensors.
"""


def tolerances(dtype: torch.dtype) -> tuple[float, float]:
    """Return (atol, rtol) of a dtype; TypeError for one that is not graded by tolerance."""
    return limits(dtype).atol, limits(dtype).rtol


def limits(dtype: torch.dtype) -> Limits:
    """Return every limit of a dtype; TypeError for one that is not graded by tolerance."""
    if dtype not in LIMITS:
        allowed = ", ".join(_name(known) for known in LIMITS)
        raise TypeError(f"outputs of {_name(dtype)} are not graded by tolerance; allowed: {allowed}")
    return LIMITS[dtype]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
