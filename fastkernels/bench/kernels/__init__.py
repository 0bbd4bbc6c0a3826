"""Tier 1: grades one operator's forward in isolation, scenario by scenario; no torch in this process."""

from fastkernels.bench.kernels.grader import KernelGrader
from fastkernels.bench.kernels.limits import left_out
from fastkernels.bench.kernels.log import start_log
from fastkernels.bench.kernels.report_file import json_schema, read_result, write_result
from fastkernels.bench.kernels.settings import GraderSettings, resolve_device

__all__ = [
    "GraderSettings",
    "KernelGrader",
    "json_schema",
    "left_out",
    "read_result",
    "resolve_device",
    "start_log",
    "write_result",
]
