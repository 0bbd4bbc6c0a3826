"""Inputs that reach a call only after it was queued: work that does not keep to the stream's order misses them."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.bench.isolate.bits import rolled
from fastkernels.bench.isolate.service import private_copy

CYCLES_PER_S = 2e9
"""About what a GPU's clock makes."""

LEAST_BUSY_S, MOST_BUSY_S = 2e-3, 10e-3
"""Time for which the device is kept busy, in which an eager call is queued with all that it launches."""

TIMES_QUEUED = 4
"""Times as long as the call before took to be queued, between these."""

LATE_BYTES = 256 * 1024 * 1024
"""Larger tensors, paged caches, are there from the start: a copy of theirs would take memory that others need."""


def busy_cycles(queued_s: float) -> int:
    """Cycles for which to keep the device busy before a call, after one that took `queued_s` to be queued."""
    return int(CYCLES_PER_S * min(MOST_BUSY_S, max(LEAST_BUSY_S, TIMES_QUEUED * queued_s)))


def arrive_late(inputs: Mapping[str, Any], device: torch.device, queued_s: float) -> dict[str, torch.Tensor]:
    """On CUDA have float inputs hold other values until the stream has worked off what stands before the next call.

    A call whose work waits for nothing reads those values; one whose work nothing waits for is not done when its
    outputs are copied. queued_s: how long the call before took to be queued. On a CPU nothing happens: calls are over
    when they return. What is returned is to be kept until the device is done, so that nobody else is given that memory.
    """
    if device.type != "cuda":
        return {}
    late = {name: value for name, value in inputs.items()
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.nbytes <= LATE_BYTES}
    given = {name: private_copy(value) for name, value in late.items()}
    for value in late.values():
        value.copy_(other_floats(value))
    torch.cuda.synchronize(device)
    torch.cuda._sleep(busy_cycles(queued_s))  # type: ignore[no-untyped-call]
    for name, value in late.items():
        value.copy_(given[name])
    return given


def other_floats(tensor: torch.Tensor) -> torch.Tensor:
    """Other values of the same kind in memory of their own: the elements moved along by one, strides kept."""
    copy: torch.Tensor = private_copy(tensor)
    return copy.copy_(rolled(tensor, 1))
