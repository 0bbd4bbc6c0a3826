"""Run tracking: the calls that every tier makes to record what it measured.

Nothing is recorded by this version: the MLflow store is not built yet. The first call says so once, so that no run is
believed to be tracked.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fastkernels.results import KernelBenchResult


class NoTracker:
    """Records nothing and says so once."""

    def __init__(self) -> None:
        self._warned = False

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn("fastkernels: run tracking is not built yet, nothing is recorded", stacklevel=3)

    @contextmanager
    def start_run(
        self, name: str, params: Mapping[str, object] | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """Open a run called `name`."""
        del name, params, tags
        self._warn()
        yield

    def log_kernel(self, op: str, level: int, code: str) -> None:
        """Keep the source of one kernel."""
        del op, level, code
        self._warn()

    def log_kernel_bench(self, result: KernelBenchResult) -> None:
        """Keep the results of one run of the kernel tier."""
        del result
        self._warn()

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Keep any numbers by name."""
        del metrics
        self._warn()


tracker = NoTracker()
"""The tracker of this process."""
