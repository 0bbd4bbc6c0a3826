"""The tracker: what is logged to which run, and what the caller is told where that fails."""

import dataclasses
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from fastkernels.bench.tracking import kernel_record, tier_records
from fastkernels.bench.tracking.kernel_files import made
from fastkernels.bench.tracking.open_run import OpenRun, RunHandle
from fastkernels.bench.tracking.record import Record, as_metrics, as_params, as_tags
from fastkernels.bench.tracking.run import EXPERIMENT, TrackedRun
from fastkernels.bench.tracking.store import Store, StoreError, open_store
from fastkernels.bench.tracking.uri import shown_uri, tracking_uri
from fastkernels.env import tracking_is_off
from fastkernels.errors import ReportError, TrackingError
from fastkernels.results import EvalReport, KernelBenchResult


class TrackingWarning(UserWarning):
    """Something was not recorded."""


def warn(message: str) -> None:
    """Say it as a warning, on stderr where warnings are errors: a benchmark does not end for want of its log."""
    try:
        warnings.warn(message, TrackingWarning, stacklevel=2)
    except TrackingWarning:
        sys.stderr.write(f"{message}\n")


class Tracker:
    """Records runs; one run at a time is open in a process, or several within each other.

    No method but `query_runs` raises for what goes wrong with the record: the run goes on, and one message at its end
    says what was lost.
    """

    def __init__(self, uri: str = "", notify: Callable[[str], None] = warn) -> None:
        """`uri`: where to keep runs, by default what `tracking_uri` says when a run starts; `notify` gets messages."""
        self._uri = uri
        self._notify = notify
        self._open: list[OpenRun] = []
        self._store: Store | None = None
        self._told: set[str] = set()

    @contextmanager
    def start_run(self, name: str, params: Mapping[str, object] | None = None,
                  tags: Mapping[str, object] | None = None, started: str = "",
                  wall_s: float | None = None) -> Iterator[RunHandle]:
        """Open a run called `name`; what is logged until the block ends belongs to it.

        A run within another becomes its child in MLflow. A run whose block is left by an exception ends as FAILED, by
        Ctrl+C as KILLED. `started` (UTC time, ISO 8601) and `wall_s` (seconds) are those of a run that is recorded
        after it took place.
        """
        run = self._begin(name, params or {}, tags or {}, started)
        run.ended = ended(started, wall_s)
        self._open.append(run)
        try:
            yield run.handle
        except BaseException as error:
            self._end(run, run.handle.status or _status_of(error))
            raise
        else:
            self._end(run, run.handle.status or "FINISHED")

    def log_kernel(self, op: str, level: int, code: str) -> None:
        """Keep the source of one kernel as `kernels/{op}.py`; see `KernelFiles` for several of one name."""
        self._log(f"source of {op}", lambda run: run.write_kernels([made(op, level, code)]))

    def log_kernel_bench(self, result: KernelBenchResult) -> None:
        """Keep one run of the kernel tier: values, sources, errors, the results file and its plots."""
        run = self._current("kernel results")
        if run is None:
            return
        run.benches += 1
        suffix = f"-{run.benches}" if run.benches > 1 else ""
        run.attempt("sources of the kernels", lambda: run.write_kernels(result.kernels))
        run.attempt("results file and errors", lambda: run.write_files({
            f"results{suffix}.json": kernel_record.results_file(result),
            **kernel_record.error_files(result.results, suffix)}))
        run.attempt("models", lambda: run.store.write_dataset(run.run_id, *kernel_record.dataset(result)))
        run.attempt("plots", lambda: _write_plots(run, result, suffix))
        # last: MLflow reads back all metrics of a run whenever it is given files or tags
        run.attempt("metrics of the kernel run", lambda: run.write(_of_tier("kernel", kernel_record.values(result))))

    def log_eval(self, report: EvalReport) -> None:
        """Keep the report of one run of the eval tier."""
        self._log("eval report", lambda run: _write_tier(run, "eval", tier_records.eval_record(report)))

    def log_e2e(self, results: Mapping[str, Any], bench_type: str) -> None:
        """Keep the results of one benchmark of a whole model; `bench_type` is throughput, latency or serve."""
        self._log(f"e2e {bench_type} results",
                  lambda run: _write_tier(run, "e2e", tier_records.e2e_record(results, bench_type)))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Keep any numbers by name; a name that is logged again gets a further step."""
        def write(run: OpenRun) -> None:
            numbers, wrong = as_metrics(metrics)
            for text in wrong:
                run.lose(f"metric {text}", "not a number")
            run.write(Record(metrics=numbers))

        self._log(f"metrics {', '.join(map(str, metrics))}" if isinstance(metrics, Mapping) else "metrics", write)

    def query_runs(self, experiment: str = EXPERIMENT, filter_string: str = "",
                   max_results: int = 100) -> list[TrackedRun]:
        """Runs that match an MLflow filter such as `tags.tier = "agent"`, newest first.

        Empty without mlflow. TrackingError where the filter is wrong or the store does not answer.
        """
        store = self._choose()
        try:
            return store.search(experiment, filter_string, max_results)
        except StoreError as error:
            raise TrackingError(f"{shown_uri(store.uri)}: {error}") from error

    def _begin(self, name: str, params: Mapping[str, object], tags: Mapping[str, object], started: str) -> OpenRun:
        store = self._choose()
        run = OpenRun(store, RunHandle(str(name)))
        parent = next((other.run_id for other in reversed(self._open) if other.run_id), "")
        try:
            run.tags = as_tags(tags)
            run.handle.run_id = store.open_run(str(name), run.tags, parent, started)
            run.handle.uri = store.uri
        except Exception as error:  # the caller's run goes on
            self._tell(f"fastkernels tracking: run {name!r} is not recorded: {shown_uri(store.uri)}: {error}")
        if params:
            run.attempt("parameters", lambda: run.write(Record(params=as_params(params))))
        return run

    def _end(self, run: OpenRun, status: str) -> None:
        self._open.remove(run)
        run.attempt("its end", lambda: run.store.end_run(run.run_id, status, run.ended))
        if run.lost:
            self._tell(f"fastkernels tracking: run {run.handle.name!r} ({run.run_id} in {shown_uri(run.store.uri)}) "
                       f"is not complete; lost: {run.lost}")

    def _current(self, what: str) -> OpenRun | None:
        if not self._open and not tracking_is_off():
            self._once(f"fastkernels tracking: {what} not recorded: no run is open (with tracker.start_run(...):)")
        return self._open[-1] if self._open else None

    def _log(self, what: str, action: Callable[[OpenRun], None]) -> None:
        run = self._current(what)
        if run is not None:
            run.attempt(what, lambda: action(run))

    def _choose(self) -> Store:
        uri = self._uri or tracking_uri()
        if self._store is None or self._store.uri != uri or tracking_is_off():
            self._store = open_store(uri)
        reason = getattr(self._store, "reason", "")
        if reason:
            self._once(f"fastkernels tracking: {reason}")
        return self._store

    def _once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)

    def _tell(self, message: str) -> None:
        self._notify(message)


def ended(started: str, wall_s: float | None) -> str:
    """The UTC time, ISO 8601, at which a run of the past ended; empty for one that ends now."""
    if not started or wall_s is None:
        return ""
    return (datetime.fromisoformat(started) + timedelta(seconds=wall_s)).isoformat()


def _of_tier(tier: str, record: Record) -> Record:
    return dataclasses.replace(record, tags={"tier": tier, **record.tags})


def _write_tier(run: OpenRun, tier: str, record: Record) -> None:
    run.attempt(f"{tier} results file", lambda: run.write_files(record.files))
    run.write(_of_tier(tier, record))


def _status_of(error: BaseException) -> str:
    if isinstance(error, SystemExit) and not error.code:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def _write_plots(run: OpenRun, result: KernelBenchResult, suffix: str) -> None:
    from fastkernels.report import plots

    try:
        drawn = plots(result)
    except ReportError:  # the extra `report` is not installed: a run without plots is complete
        return
    run.write_files({f"plots/{name.removesuffix('.svg')}{suffix}.svg": text.encode() for name, text in drawn.items()})
