"""The end of a run, whatever brings it about: what was finished is gathered, written and recorded, once."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_fastkernels import tracking_bridge
from pytest_fastkernels.output import Output
from pytest_fastkernels.signals import Terminated, undisturbed

if TYPE_CHECKING:
    from fastkernels.results import KernelBenchResult, ScenarioResult
    from pytest_fastkernels.session import FkSession


def end_run(fk: "FkSession", exit_status: int) -> int:
    """Write and record what was found; return the exit status, which is 0 for no run that has lost anything."""
    with suppress(OSError):  # the terminal is gone
        fk.report.finish()
    fk.record.end()
    with undisturbed():
        _gather(fk)
        result = fk.result_file() if fk.record.results else None
        written = result is not None and _write(fk, result)
        if fk.output is not None:
            fk.output.release(finished=fk.interrupted is None and exit_status != pytest.ExitCode.INTERNAL_ERROR)
    if result is not None:
        fk.report.notes.append(result.environment.get("sandbox", {}).get("missing", ""))
        fk.unrecorded = result, exit_status  # once the table is printed: it takes seconds
    if isinstance(fk.interrupted, Terminated):
        return fk.interrupted.exit_status
    if result is None and not fk.active:  # a suite of other tests, in which tests of kernels are all skipped
        return exit_status
    return exit_status if written or exit_status != pytest.ExitCode.OK else pytest.ExitCode.TESTS_FAILED


def _gather(fk: "FkSession") -> None:
    """Complete the record and put it in the order of the manifest."""
    for node_id, result in list(_not_reported(fk)):
        fk.take(node_id, [result])
    order = {address: number for number, address in enumerate(fk.by_id)}
    fk.record.results.sort(key=lambda result: order.get(result.id, len(order)))
    if fk.benchmark:
        fk.report.notes.append(fk.benchmark.shorten_table())


def _not_reported(fk: "FkSession") -> "Iterator[tuple[str, ScenarioResult]]":
    """What the log holds of scenarios that no report has told of: the run was ended before it reached this process."""
    from fastkernels.bench.kernels import KernelGrader
    from pytest_fastkernels.reproduce import command

    graded = fk.record.graded
    for node_id, scenario in fk.record.expected.items():
        if scenario.id not in graded and isinstance(fk.grader, KernelGrader):
            found = fk.grader.finished(scenario)
            if found is not None:
                yield node_id, replace(found, reproduce=command(fk, scenario.id, found.seed))


def _write(fk: "FkSession", result: "KernelBenchResult") -> bool:
    """Write the results file; False where that was not possible, which the footer then says."""
    try:
        fk.output = fk.output or Output(fk, logs=False)
    except pytest.UsageError as error:
        fk.report.notes.append(f"results file not written: {error}")
        return False
    fk.output.write(result)
    return not fk.output.error


def record(fk: "FkSession", result: "KernelBenchResult", exit_status: int, write: Callable[[str], None]) -> None:
    """Keep the run with MLflow; `write` prints a line. A second Ctrl+C ends that alone."""
    stopped = exit_status == pytest.ExitCode.INTERRUPTED and fk.interrupted is None  # by --maxfail under xdist
    status = pytest.ExitCode.TESTS_FAILED if stopped else exit_status
    where = fk.output.described() if fk.output is not None else ""
    try:
        tracking_bridge.track(result, status, fk.config.invocation_params.dir, write, where)
    except KeyboardInterrupt:
        write(f"fastkernels tracking: interrupted, so that the run is not recorded whole; {where}")
