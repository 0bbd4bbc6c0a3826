"""Hooks of the process that reports: the only one, or xdist's controller."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_fastkernels.junit import name_class
from pytest_fastkernels.signals import Terminated
from pytest_fastkernels.xdist_bridge import KEY

if TYPE_CHECKING:
    from pytest_fastkernels.session import FkSession


class ReportHooks:
    """Takes results from reports and words them; returns at once in runs that grade nothing."""

    def __init__(self, fk: "FkSession") -> None:
        self.fk = fk

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note what runs, for the progress line."""
        if self.fk.run.collects:
            self.fk.report.started(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note what has ended."""
        if self.fk.run.collects:
            self.fk.report.ended(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results; first, so that JUnit's plugin finds the class name."""
        scenario = self.fk.record.expected.get(report.nodeid) if self.fk.run.collects else None
        if scenario is not None:
            name_class(self.fk.config, report, f"L{scenario.level}.{scenario.op}")
        if self.fk.run.collects or hasattr(report, KEY):
            self.fk.receive(report)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that the run was ended from outside, and not by itself, as for --maxfail under xdist."""
        error = excinfo.value
        if type(error) is KeyboardInterrupt or isinstance(error, Terminated | pytest.exit.Exception):
            self.fk.interrupted = error

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> Generator[None, Any, Any]:
        """Leave letters to pytest under -q, words with the finding under -v, and print group lines otherwise."""
        status = yield
        if isinstance(report, pytest.TestReport) and (self.fk.run.collects or hasattr(report, KEY)):
            return self.fk.report.status(report, status)
        return status

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """Keep hundreds of failures from burying the table: pytest words some, and counts all of them afterwards."""
        failed = terminalreporter.stats.get("failed", [])
        shown = self.fk.report.shown_failures(failed) if self.fk.run.collects else failed
        if len(shown) < len(failed):
            terminalreporter.stats["failed"] = shown
        yield
        if len(shown) < len(failed):
            terminalreporter.stats["failed"] = failed
