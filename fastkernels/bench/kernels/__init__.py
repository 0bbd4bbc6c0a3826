"""Tier 1: grades one operator's forward in isolation, scenario by scenario; no torch in this process."""

from fastkernels.bench.kernels.grader import KernelGrader
from fastkernels.bench.kernels.limits import left_out
from fastkernels.bench.kernels.log import start_log
from fastkernels.bench.kernels.settings import GraderSettings, resolve_device

__all__ = [
    "GraderSettings",
    "KernelGrader",
    "left_out",
    "resolve_device",
    "start_log",
]
