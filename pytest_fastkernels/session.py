"""One pytest session of the plugin; the hooks in `plugin.py` call its methods."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastkernels.errors import FastKernelsError
from fastkernels.results.text import plain
from pytest_fastkernels.benchmark_bridge import BenchmarkBridge
from pytest_fastkernels.items import RESULTS, collect_scenarios, is_graded, uses_grading
from pytest_fastkernels.options import Settings, read_settings
from pytest_fastkernels.report_hooks import ReportHooks
from pytest_fastkernels.run import Run, decide
from pytest_fastkernels.signals import EndingSignals, undisturbed
from pytest_fastkernels.timeout_bridge import TimeoutBridge
from pytest_fastkernels.xdist_bridge import (
    KEY,
    XdistBridge,
    handed_over,
    is_distributed,
    refuse_each,
    with_one_gpu_each,
)

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from fastkernels.results import KernelBenchResult, LeftOut, ScenarioResult
    from pytest_fastkernels.grading import Grader
    from pytest_fastkernels.output import Output
    from pytest_fastkernels.plan import LeftOutRule, Plan
    from pytest_fastkernels.record import RunRecord
    from pytest_fastkernels.report import Report

UNLOGGED = "fastkernels_unlogged"
"""Attribute of a report that says why the log lacks results of the process it comes from."""
SESSION = pytest.StashKey["FkSession"]()
"""Where the session lies on `config.stash`."""
WITHOUT_EFFECT = ("{options} without effect: no collected test uses fk_scenario or fk_grade. Select scenarios with "
                  "--fk-target, --fk-level or --fk-model and give no path, or give the path of a test that uses them")


class FkSession:
    """State of the plugin in one process: the only one, xdist's controller, or one of its workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings: Settings = read_settings(config)
        handover = handed_over(config)
        self.is_worker = handover is not None
        self.is_controller = is_distributed(config)
        self.run: Run = decide(config, self.settings) if handover is None else Run.from_wire(handover)
        if self.run.output_json:
            self.settings = replace(self.settings, output_json=Path(self.run.output_json))
        self.active = bool(self.settings.given) or self.run.collects
        self.benchmark: BenchmarkBridge | None = None
        self.opened: Grader | None = None
        self.output: Output | None = None
        self.has_graded = False
        self.unrecorded: tuple[KernelBenchResult, int] | None = None
        self.has_ended = False
        self.interrupted: BaseException | None = None
        self.signals = EndingSignals()

    def configure(self) -> None:
        """Check the selection before anything starts; does next to nothing in a run without --fk options."""
        self.config.pluginmanager.register(TimeoutBridge(self), "fastkernels-timeout")
        if self.active:
            refuse_each(self.config)
            self.benchmark = BenchmarkBridge(self.config, self.is_controller or self.is_worker, self.run.benchmark_only)
        if not self.is_worker:
            self.config.pluginmanager.register(ReportHooks(self), "fastkernels-report")
        if self.is_controller:
            self.config.pluginmanager.register(XdistBridge(self), "fastkernels-xdist")
        only_asks = self.config.option.help or self.config.option.version
        if (self.settings.selects or self.run.collects) and not only_asks:
            _ = self.plan  # here, so that a wrong selection ends the run before it starts

    @property
    def used(self) -> bool:
        """True once the run has to do with scenarios."""
        return "plan" in self.__dict__ or "record" in self.__dict__

    @cached_property
    def plan(self) -> "Plan":
        """What the run grades; raises UsageError for a selection that leaves nothing."""
        from pytest_fastkernels.plan import make_plan

        decided = self.run.left_out
        plan = make_plan(self.settings, self.run.addresses, self._left_out_rule() if decided is None else decided)
        if decided is None:
            self.run = self.run.planned(self.grader.device, plan.left_out)
        return plan

    def _left_out_rule(self) -> "LeftOutRule":
        rule = self.grader.left_out
        return with_one_gpu_each(rule) if self.is_controller and self.grader.device == "cuda" else rule

    @cached_property
    def by_id(self) -> "Mapping[str, Scenario]":
        """The planned scenarios by address."""
        return {scenario.id: scenario for scenario in self.plan.scenarios}

    @property
    def grader(self) -> "Grader":
        """The grader of this process, made at first use."""
        if self.opened is None:
            from pytest_fastkernels.grading import make_grader

            try:
                self.opened = make_grader(self)
            except FastKernelsError as error:
                raise pytest.UsageError(str(error)) from error
        return self.opened

    @property
    def log_path(self) -> Path | None:
        """The log of finished scenarios, which --fk-resume reads; None in a run without --fk options."""
        return self.settings.output_json.with_suffix(".jsonl") if self.active else None

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.run.device or self.grader.device

    @cached_property
    def record(self) -> "RunRecord":
        """What the run has found, in the process that reports."""
        from pytest_fastkernels.record import RunRecord

        return RunRecord()

    @cached_property
    def report(self) -> "Report":
        """The terminal report."""
        from pytest_fastkernels.report import Report

        return Report(self)

    def header(self) -> list[str]:
        """Lines for pytest's header."""
        lines = self.report.header() if "plan" in self.__dict__ else []
        return lines + [f"fastkernels: {note}" for note in (self.output.notes if self.output else ())]

    def start(self) -> None:
        """Prepare terminal and results directory, so that a wrong one ends the run before hours of grading."""
        if self.is_worker or self.log_path is None or self.config.option.collectonly:
            return
        from pytest_fastkernels.output import Output, own_path

        self.signals.take()
        self.output = Output(self, logs=True)
        own_path(self)
        try:
            if self.settings.dump is not None:
                self.settings.dump.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--fk-dump: cannot write to {self.settings.dump}: {error.strerror}") from error
        self.report.start()

    def collect(self, session: pytest.Session) -> bool | None:
        """Collect the paths that were given beside addresses; None leaves collection to pytest."""
        if self.is_controller or not self.run.collects:
            return None
        session.perform_collect(self.run.paths)
        return True

    def add_items(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Append the graded scenarios to what pytest collected, and answer for options without effect."""
        if self.run.collects:
            found = collect_scenarios(session, self, self.plan.scenarios)
            items += [item for item in found if item.nodeid not in self.plan.left_out]
            if self.plan.left_out:
                self.config.hook.pytest_deselected(items=[i for i in found if i.nodeid in self.plan.left_out])
        elif (self.active and not self.is_worker and not session.testsfailed
              and not any(uses_grading(item) for item in items)):
            raise pytest.UsageError(WITHOUT_EFFECT.format(options=", ".join(self.settings.given)))
        if self.benchmark:
            self.benchmark.skip_others(items)

    def expect(self, node_ids: Iterable[str]) -> None:
        """Note the items that will run, after every filter."""
        if self.run.collects and not self.is_worker and not self.config.option.collectonly:
            self.record.expect(node_ids, self.by_id)
            self.report.begin()

    def grade(self, item: pytest.Item, scenario: "Scenario") -> "ScenarioResult":
        """Grade one scenario for one test and keep the result on the test."""
        from pytest_fastkernels.failure import unseen_output
        from pytest_fastkernels.junit import properties
        from pytest_fastkernels.reproduce import command

        self.has_graded = True
        result = self.grader.grade(scenario)
        dump = self.shown(Path(result.dump)) if result.dump else ""
        result = replace(result, reproduce=command(self, scenario.id, result.seed), dump=dump)
        item.stash.setdefault(RESULTS, []).append(result)
        item.user_properties += properties(result)
        if said := unseen_output(result):
            item.add_report_section("from the candidate", "stdout", said)
        return result

    def receive(self, report: pytest.TestReport) -> None:
        """Take the results that a test's report carries; a scenario whose grading broke still gets one."""
        from pytest_fastkernels.record import from_wire, lost
        from pytest_fastkernels.reproduce import command

        if self.output is not None:
            self.output.log_error = getattr(report, UNLOGGED, self.output.log_error)
        if report.outcome not in ("passed", "failed", "skipped"):  # such as rerun: the test's last report counts
            return
        results = from_wire(getattr(report, KEY, ()))
        scenario = self.record.expected.get(report.nodeid)
        if scenario and report.failed and not results and scenario.id not in self.record.graded:
            crash = getattr(report.longrepr, "reprcrash", None)
            results = [lost(scenario, report.longreprtext, crash.message if crash else "", device=self.device,
                            seed=self.run.seed, self_test=self.plan.self_test,
                            reproduce=command(self, scenario.id, self.run.seed))]
        self.take(report.nodeid, results)
        self.report.scenario_done(report.nodeid, results)

    def take(self, node_id: str, results: "Sequence[ScenarioResult]") -> None:
        """Put what a test has found on record."""
        self.record.add(node_id, results)
        if results and self.benchmark is None:  # a test of the user's own, in a run without --fk options
            self.benchmark = BenchmarkBridge(self.config, self.is_controller or self.is_worker, self.run.benchmark_only)
        for result in results:
            if self.benchmark:
                self.benchmark.add(node_id, result)

    def left_out(self) -> "list[LeftOut]":
        """Selected scenarios without a result, with the reasons."""
        from fastkernels.results import LeftOut

        by_plan = [LeftOut(address, reason) for address, reason in self.plan.left_out.items()]
        return by_plan + self.record.not_reached()

    @property
    def reports(self) -> bool:
        """True in the process that reports, in a run that has to do with grading."""
        return not self.is_worker and not self.config.option.collectonly and (self.active or self.used)

    def finish(self, session: pytest.Session) -> None:
        """Write the results file and settle the exit status; a run that graded nothing is not green."""
        if self.is_worker and self.has_graded:
            self.config.workeroutput[KEY] = self.environment()  # type: ignore[attr-defined]
        elif self.reports:
            session.exitstatus = self.end(session.exitstatus)

    def end(self, exit_status: int) -> int:
        """Do what the end of the run asks for, once; return the exit status."""
        from pytest_fastkernels.ending import end_run

        self.has_ended = True
        return end_run(self, exit_status)

    def track(self, write: Callable[[str], None]) -> None:
        """Record the run where that was not done; `write` prints a line."""
        if self.unrecorded is not None:
            from pytest_fastkernels.ending import record

            (result, exit_status), self.unrecorded = self.unrecorded, None
            record(self, result, exit_status, write)

    def attach(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Put an item's results on its report as plain data."""
        if is_graded(item) and report.longrepr and plain(report.longreprtext) != report.longreprtext:
            report.longrepr = plain(report.longreprtext)  # xdist cannot carry a lone surrogate
        if log_error := getattr(self.opened, "log_error", ""):
            setattr(report, UNLOGGED, log_error)
        if report.when == "setup":  # a test may run again
            item.stash[RESULTS] = []
        elif report.when == "call" and RESULTS in item.stash and item.stash[RESULTS]:
            from pytest_fastkernels.record import to_wire

            results = item.stash[RESULTS]
            setattr(report, KEY, to_wire(results))
            crash = getattr(report.longrepr, "reprcrash", None)
            if crash is not None:  # pytest's short summary prints all of it where the variable CI is set
                crash.message = crash.message.partition("\n")[0]

    def environment(self) -> "dict[str, object]":
        """Machine and versions as the grader describes them; what kept it from that is written in their place."""
        try:
            return dict(self.grader.environment())
        except Exception as error:  # no reason to lose the results that it should stand beside
            return {"error": str(error)}

    def result_file(self) -> "KernelBenchResult":
        """The whole run, as the results file holds it."""
        from fastkernels.results import KernelBenchResult
        from pytest_fastkernels.grading import grader_settings

        record = self.record
        if self.has_graded or not record.environment:  # no worker of xdist has told it where the run was interrupted
            record.environment = self.environment()
        return KernelBenchResult(
            results=tuple(record.results), left_out=tuple(self.left_out()), subsumed=self.plan.subsumed,
            kernels=self.plan.kernels(record.results), environment=record.environment,
            settings=grader_settings(self).to_dict(), started=record.started, wall_s=record.wall_s)

    def close(self) -> None:
        """End the worker processes of the grader; print what the end of the session has kept from being printed."""
        try:
            if self.reports and "record" in self.__dict__ and self.record.results:
                self._make_up()
            elif self.output is not None and not self.has_ended:
                self.output.release(finished=False)
            self.track(lambda line: print(line, file=sys.stderr))  # noqa: T201  no terminal reporter is left
        finally:
            with undisturbed():
                self.close_grader()
            self.signals.give_back()

    def close_grader(self) -> None:
        """End the worker processes of the grader."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def _make_up(self) -> None:
        """Write and print what was found where another plugin's error, or one of pytest, came before that."""
        reporter = self.report.reporter
        if not self.has_ended:
            self.end(pytest.ExitCode.INTERNAL_ERROR)
        if reporter is not None and not self.report.is_printed and not reporter.no_summary:
            self.report.summary(reporter)

    def summarize(self, reporter: pytest.TerminalReporter) -> None:
        """Print table and footer."""
        if self.reports and (self.active or self.record.results):  # not where tests of kernels are all skipped
            self.report.summary(reporter)
            self.track(lambda line: self.report.write_now(reporter, line))

    def shown(self, path: Path | None) -> str:
        """A path as messages and commands show it: relative to where pytest was started, if below."""
        folder = self.config.invocation_params.dir
        if path is None:
            return "-"
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
