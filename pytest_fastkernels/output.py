"""Where a run's results go: its results file and log are its own from the start of the run to its end."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastkernels.bench.kernels import Hold
    from fastkernels.results import KernelBenchResult
    from pytest_fastkernels.session import FkSession

FLAG = "--fk-output-json"


class Output:
    """The results file and log of one run, in the process that reports."""

    def __init__(self, fk: "FkSession", logs: bool) -> None:
        """Take hold of the files that the settings name; UsageError where they cannot be written or are not to be had.

        Where another run has the default ones, this one writes beside them. logs: the run has a log; it begins now.
        """
        self.fk = fk
        self.logs = logs
        self.notes: list[str] = []
        """What the user must know at once."""
        self.error = ""
        """Why the results file was not written; empty where it was, or before."""
        self.log_error = ""
        """Why the log lacks results; empty where it holds all."""
        path = fk.settings.output_json
        try:
            if path.exists() and not path.is_file():
                what = "a directory" if path.is_dir() else "no regular file"
                raise pytest.UsageError(f"{FLAG}: {path} is {what}; expected a file")
            self.hold = self._hold(path)
            if logs:
                self._begin_log()
        except OSError as error:
            raise pytest.UsageError(f"{FLAG}: cannot write beside {path}: {error}") from error

    @property
    def path(self) -> Path:
        """The results file."""
        return self.hold.results

    @property
    def log(self) -> Path:
        """The log of finished scenarios."""
        return self.path.with_suffix(".jsonl")

    def _hold(self, path: Path) -> "Hold":
        from fastkernels.bench.kernels import ResultsInUseError, hold, hold_another

        try:
            return hold(path)
        except ResultsInUseError as error:
            if self.fk.settings.resume or FLAG in self.fk.settings.given:
                flag = "--fk-resume" if self.fk.settings.resume else FLAG
                raise pytest.UsageError(f"{flag}: {self.fk.shown(path)}: {error}; wait for its end, or give this run a "
                                        f"file of its own with {FLAG}") from error
            found = hold_another(path)
            self.notes.append(f"{error}; the results of this one go to {self.fk.shown(found.results)}")
            return found

    def _begin_log(self) -> None:
        from fastkernels.bench.kernels import keep_log, start_log

        resume = self.fk.settings.resume
        kept = keep_log(self.log) if self.hold.unfinished and not resume else None
        if kept is not None:
            again = self.fk.shown(kept.with_suffix(".json"))
            self.notes.append(f"the log of a run that was not finished is kept as {self.fk.shown(kept)} "
                              f"(--fk-resume {FLAG}={again} goes on with it)")
        start_log(self.log, resume)

    def write(self, result: "KernelBenchResult") -> None:
        """Write the results file; `error` says where that was not possible."""
        from fastkernels.results import write_result

        try:
            write_result(self.path, result)
        except OSError as error:
            self.error = f"results file not written: {self.fk.shown(self.path)}: {error.strerror or error}"

    def release(self, finished: bool) -> None:
        """Let other runs have the files; the next one keeps the log unless this run or the one before `finished`."""
        self.hold.release(finished and not self.error and (self.logs or not self.hold.unfinished))

    def described(self) -> str:
        """The footer's line on the results."""
        log = self.fk.shown(self.log)
        if self.log_error:
            rest = f"the log {log} lacks results: {self.log_error}"
            return f"{self.error}; {rest}" if self.error else f"results: {self.fk.shown(self.path)}; {rest}"
        kept = f"{self.error}; the log {log} holds what was finished (--fk-resume goes on with it)"
        return kept if self.error else f"results: {self.fk.shown(self.path)}"


def own_path(fk: "FkSession") -> None:
    """Have the session use the output's path, which is not that of the settings where another run has that."""
    assert fk.output is not None
    if fk.output.path != fk.settings.output_json:
        fk.settings = replace(fk.settings, output_json=fk.output.path)
        fk.close_grader()  # its log is the other run's
    fk.run = replace(fk.run, output_json=str(fk.output.path))
