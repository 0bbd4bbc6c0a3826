"""What keeps runs: the interface, and the choice between its variants."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

from fastkernels.bench.tracking.run import TrackedRun
from fastkernels.env import tracking_is_off
from fastkernels.errors import FastKernelsError, install_command

NOT_INSTALLED = (f"mlflow is not installed, nothing is recorded: {install_command('mlflow')} "
                 "(or set FASTKERNELS_TRACKING=off)")


class StoreError(FastKernelsError):
    """The store refused something or failed."""


class StoreUnreachableError(StoreError):
    """The store does not answer, so that the next call would wait in vain too."""


class Store(Protocol):
    """Keeps runs; every method returns or raises StoreError within a bounded time."""

    uri: str
    """Where runs are kept; empty where they are not."""

    def open_run(self, name: str, tags: Mapping[str, str], parent: str, started: str) -> str:
        """Open a run and return its id, empty where it is not kept; `started` is ISO 8601, empty for now."""

    def write_values(self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, tuple[float, int]],
                     tags: Mapping[str, str]) -> None:
        """Add values to a run; a metric is a value and its step."""

    def write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Add files, by path, to a run."""

    def write_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Say what a run was made on, which tables of runs show; equal digests stand for equal data."""

    def end_run(self, run_id: str, status: str, ended: str) -> None:
        """End a run as FINISHED, FAILED or KILLED; `ended` is ISO 8601, empty for now."""

    def search(self, experiment: str, filter_string: str, max_results: int) -> list[TrackedRun]:
        """Runs that match a filter, newest first."""


def open_store(uri: str) -> Store:
    """The store behind a URI, or one that keeps nothing where tracking is off or mlflow is not installed."""
    from fastkernels.bench.tracking.no_store import NoStore

    if tracking_is_off():
        return NoStore()
    if find_spec("mlflow") is None:
        return NoStore(NOT_INSTALLED)
    from fastkernels.bench.tracking.mlflow_store import MlflowStore

    return MlflowStore(uri)
