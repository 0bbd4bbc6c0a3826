"""Run tracking: records a run of the kernel tier at its end, in the process that reports."""

import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastkernels.results import KernelBenchResult

LOST = "fastkernels tracking: run "
"""How the tracker's messages on a run that it could not keep, or not whole, begin."""
NAMED = 2
"""Operators, and models, that the name of a run lists."""


def track(result: "KernelBenchResult", exit_status: int, directory: Path, write: Callable[[str], None],
          results: str = "") -> None:
    """Record a run and print lines about it: that it begins, for it takes seconds, and where the run lies."""
    from fastkernels.env import tracking_is_off

    if not tracking_is_off() and find_spec("mlflow") is not None:
        write("recording the run with MLflow (FASTKERNELS_TRACKING=off leaves it out) ...")
    started = time.monotonic()
    for line in record_run(result, exit_status, directory, results):
        took = f", {time.monotonic() - started:.1f} s" if line.startswith("tracked: ") else ""
        write(line + took)


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
    """`1.24x 40/40 passed: rms_norm llama31-8b on NVIDIA H200`; what was found first, since MLflow's table cuts names.

    Of failures the most frequent verdict stands in place of `passed`.
    """
    from fastkernels.report.formats import ratio
    from fastkernels.report.heat_map import speedup_of
    from fastkernels.report.summary import verdict_counts

    results = result.results
    what = " ".join(_few(names) for names in ([item.op for item in results], [item.model for item in results]))
    counts, speedup = verdict_counts(results), speedup_of(results)
    failed = [name for name, _ in counts if name != "passed"]
    gpu = result.environment.get("gpu")
    name = gpu.get("name") if isinstance(gpu, dict) else None
    device = name or ", ".join(dict.fromkeys(item.device for item in results))
    found = [] if speedup is None else [f"{ratio(speedup)}x"]
    found += [f"{dict(counts).get('passed', 0)}/{len(results)}", failed[0] if failed else "passed"]
    found += ["self-test"] if all(item.self_test for item in results) else []
    return f"{' '.join(found)}: {what} on {device}"


def _few(names: Iterable[str]) -> str:
    """`a, b, c +4`: different ones, NAMED at most."""
    different = list(dict.fromkeys(names))
    more = f" +{len(different) - NAMED}" if len(different) > NAMED else ""
    return ", ".join(different[:NAMED]) + more


def status_of(exit_status: int) -> str:
    """How MLflow calls the end of a run: one that found a wrong kernel has failed, as its exit status says."""
    if exit_status == pytest.ExitCode.INTERRUPTED:
        return "KILLED"
    return "FINISHED" if exit_status == pytest.ExitCode.OK else "FAILED"
