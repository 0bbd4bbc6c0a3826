"""Tier 1: grades one operator's forward in isolation, scenario by scenario; no torch in this process."""

from fastkernels.bench.kernels.grader import KernelGrader
from fastkernels.bench.kernels.hold import Hold, ResultsInUseError, hold, hold_another
from fastkernels.bench.kernels.limits import left_out
from fastkernels.bench.kernels.log import keep_log, start_log
from fastkernels.bench.kernels.settings import GraderSettings, resolve_device

__all__ = [
    "GraderSettings",
    "Hold",
    "KernelGrader",
    "ResultsInUseError",
    "hold",
    "hold_another",
    "keep_log",
    "left_out",
    "resolve_device",
    "start_log",
]
