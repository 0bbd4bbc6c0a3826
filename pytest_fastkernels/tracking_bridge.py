"""Run tracking: records a run of the kernel tier at its end, in the process that reports."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastkernels.results import KernelBenchResult

LOST = "fastkernels tracking: run "
"""How the tracker's messages on a run that it could not keep, or not whole, begin."""
NAMED = 3
"""Operators that the name of a run lists."""


def record_run(result: "KernelBenchResult", exit_status: int, directory: Path, results: str = "") -> list[str]:
    """Record a run in the store of `directory` and return lines for the footer: where it lies, or what was lost.

    results: says where the results file lies, for those who do not find the run in the store.

    Imports mlflow here and nowhere before, so that it costs collection and grading nothing.
    """
    from fastkernels.bench.tracking import Tracker, shown_uri, tracking_uri

    notes: list[str] = []
    tracker = Tracker(tracking_uri(directory), notes.append)
    with tracker.start_run(run_name(result), tags={"tier": "kernel"}, started=result.started,
                           wall_s=result.wall_s) as run:
        run.status = status_of(exit_status)
        tracker.log_kernel_bench(result)
    notes = [f"{note}; {results}" if results and note.startswith(LOST) else note for note in notes]
    if run.run_id:
        where = shown_uri(run.uri)
        ways = "fastkernels history" if "://" in where else "fastkernels history, fastkernels mlflow-ui"
        notes.insert(0, f"tracked: run {run.run_id} in {where} ({ways})")
    return notes


def run_name(result: "KernelBenchResult") -> str:
    """`rms_norm, silu_and_mul on NVIDIA H200`, with a word for self-tests."""
    ops = list(dict.fromkeys(item.op for item in result.results))
    more = f" and {len(ops) - NAMED} more" if len(ops) > NAMED else ""
    gpu = result.environment.get("gpu")
    name = gpu.get("name") if isinstance(gpu, dict) else None
    device = name or ", ".join(dict.fromkeys(item.device for item in result.results))
    kind = "self-test of " if all(item.self_test for item in result.results) else ""
    return f"{kind}{', '.join(ops[:NAMED])}{more} on {device}"


def status_of(exit_status: int) -> str:
    """How MLflow calls the end of a run; one that found wrong kernels has finished."""
    if exit_status == pytest.ExitCode.INTERRUPTED:
        return "KILLED"
    return "FAILED" if exit_status == pytest.ExitCode.INTERNAL_ERROR else "FINISHED"
