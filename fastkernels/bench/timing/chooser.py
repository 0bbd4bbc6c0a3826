"""Chooses the instrument for a device."""

import torch

from fastkernels.bench.timing.instruments import INSTRUMENTS
from fastkernels.bench.timing.timer import Timer
from fastkernels.bench.timing.wall import WallTimer
from fastkernels.errors import DeviceError, one_of


def open_timer(device: torch.device, method: str | None = None) -> Timer:
    """Open the timer `method`, or the best one for the device: `wall` on a CPU; on CUDA `cupti`, else `cuda_graph`.

    Both sides of a comparison must use the same one: open the first side's with None, the other's with its `name`.
    Raises DeviceError for a method that the device does not have.
    """
    allowed = {"cpu": ("wall",), "cuda": ("cupti", "cuda_graph")}.get(device.type, ())
    if method is not None and method not in allowed:
        known = "" if method in INSTRUMENTS else " (no such timer)"
        raise DeviceError(f"timer on {device.type}{known}: {one_of(method, allowed)}")
    if not allowed:
        raise DeviceError(f"timer: {one_of(device.type, ('cpu', 'cuda'))}")
    if device.type == "cpu":
        return WallTimer()
    from fastkernels.bench.timing.cuda_graph import CudaGraphTimer
    from fastkernels.bench.timing.cupti import CuptiTimer

    if method == "cuda_graph":
        return CudaGraphTimer(device)
    try:
        return CuptiTimer(device)
    except RuntimeError as error:  # EventMismatchError, or a profiler that does not start
        if method == "cupti":
            raise DeviceError(f"timer cupti: {error}") from error
        return CudaGraphTimer(device, reason=f"cupti: {error}")
