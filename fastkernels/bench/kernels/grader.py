"""Grades scenarios with two worker processes that stay warm between them."""

from pathlib import Path
from types import TracebackType
from typing import Any

from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.manifest import Scenario
from fastkernels.results import LeftOut, ScenarioResult


class KernelGrader:
    """Grades one scenario at a time; starts its worker processes at the first one and keeps them.

    Several graders in several processes may share `log_path` and `lock_dir`: scenarios of equal shape_key are then
    graded once, and timing takes turns per device. Also a context manager.
    """

    def __init__(self, settings: GraderSettings, log_path: Path | None = None, lock_dir: Path | None = None) -> None:
        """log_path: the run's JSON-lines log (see `start_log`), None for none; what it already holds is not graded
        again. lock_dir: where lock files lie; by default beside the log, or a temporary directory.
        """

    def grade(self, scenario: Scenario) -> ScenarioResult:
        """Grade one scenario, or return the finished result of an equal one; appends to the log.

        Never raises for what a candidate does; WorkerError where the harness itself cannot run at all.
        """
        raise NotImplementedError

    def finished(self, scenario: Scenario) -> ScenarioResult | None:
        """The result that the log holds for this address under these settings and candidate files, or None."""
        raise NotImplementedError

    def left_out(self, scenario: Scenario) -> LeftOut | None:
        """Why this scenario is not graded on this machine, or None (see `limits.left_out`)."""
        raise NotImplementedError

    def environment(self) -> dict[str, Any]:
        """Machine, device, driver, clocks, versions and commit, for `KernelBenchResult.environment`."""
        raise NotImplementedError

    def close(self) -> None:
        """End both workers and everything that they started; the grader may be used again afterwards."""

    def __enter__(self) -> "KernelGrader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
