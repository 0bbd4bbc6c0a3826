"""One pytest session of the plugin; the hooks in `plugin.py` call its methods."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from fastkernels.errors import FastKernelsError
from pytest_fastkernels.benchmark_bridge import BenchmarkBridge
from pytest_fastkernels.options import BY_NAME, Settings, read_settings
from pytest_fastkernels.run import Run, decide
from pytest_fastkernels.xdist_bridge import KEY, XdistBridge, handed_over, is_distributed

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from fastkernels.results import KernelBenchResult, ScenarioResult
    from pytest_fastkernels.grading import Grader
    from pytest_fastkernels.plan import Plan
    from pytest_fastkernels.record import RunRecord
    from pytest_fastkernels.report import Report

SESSION = pytest.StashKey["FkSession"]()
"""Where the session lies on `config.stash`."""


class FkSession:
    """State of the plugin in one process: the only one, xdist's controller, or one of its workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings: Settings = read_settings(config)
        handover = handed_over(config)
        self.is_worker = handover is not None
        self.is_controller = is_distributed(config)
        self.run: Run = decide(config, self.settings) if handover is None else Run.from_wire(handover)
        self.benchmark: BenchmarkBridge | None = None
        self._grader: Grader | None = None
        self.used = False

    def configure(self) -> None:
        """Check the selection before anything starts; does next to nothing in a run without --fk options."""
        if self.settings.given or self.run.collects:
            self.benchmark = BenchmarkBridge(self.config, self.is_controller, self.run.benchmark_only)
        if self.is_controller:
            self.config.pluginmanager.register(XdistBridge(self), "fastkernels-xdist")
        if self.settings.selects or self.run.collects:
            self.plan  # noqa: B018  computed here so that a wrong selection ends the run before it starts

    @property
    def reports(self) -> bool:
        """True in the process that gathers results and prints them."""
        return not self.is_worker

    @cached_property
    def plan(self) -> "Plan":
        """What the run grades; raises UsageError for a selection that leaves nothing."""
        from pytest_fastkernels.plan import make_plan

        self.used = True
        decided = self.run.left_out
        plan = make_plan(self.settings, self.run.addresses, decided, self.grader.left_out)
        if decided is None:
            self.run = self.run.planned(self.grader.device, plan.left_out)
        return plan

    @cached_property
    def by_id(self) -> "Mapping[str, Scenario]":
        """The planned scenarios by address."""
        return {scenario.id: scenario for scenario in self.plan.scenarios}

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.run.device or self.grader.device

    @property
    def grader(self) -> "Grader":
        """The grader of this process, made at first use."""
        if self._grader is None:
            from pytest_fastkernels.grading import make_grader

            try:
                self._grader = make_grader(self)
            except FastKernelsError as error:
                raise pytest.UsageError(str(error)) from error
        return self._grader

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

    def collect(self, session: pytest.Session) -> bool | None:
        """Collect the paths that were given beside the plugin's own items; None leaves collection to pytest."""
        if self.is_controller or not self.run.collects:
            return None
        session.perform_collect(self.run.paths)
        return True

    def add_items(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Append the graded scenarios to what pytest collected, and answer for options without effect."""
        if self.run.collects:
            from pytest_fastkernels.items import collect_scenarios

            found = collect_scenarios(session, self, self.plan.scenarios)
            items += [item for item in found if item.nodeid not in self.plan.left_out]
            if self.plan.left_out:
                gone = [item for item in found if item.nodeid in self.plan.left_out]
                self.config.hook.pytest_deselected(items=gone)
        elif self.settings.given and not self.is_worker and not any(_uses_grading(item) for item in items):
            raise pytest.UsageError(f"{', '.join(self.settings.given)} without effect: no collected test uses "
                                    "fk_scenario or fk_grade, and a path keeps the scenarios themselves from being "
                                    f"collected; select some with {BY_NAME['target'].flag} and give no path")
        if self.benchmark:
            self.benchmark.skip_others(items)

    def expect(self, node_ids: Iterable[str]) -> None:
        """Note the items that will run, after every filter."""
        if self.run.collects and self.reports:
            self.record.expect(node_ids, self.by_id)

    def grade(self, item: pytest.Item, scenario: "Scenario") -> "ScenarioResult":
        """Grade one scenario for one test and keep the result on the test."""
        from pytest_fastkernels.items import RESULTS

        self.used = True
        result = self.grader.grade(scenario)
        result = result if result.reproduce else replace(result, reproduce=self.reproduce(scenario.id))
        item.stash.setdefault(RESULTS, []).append(result)
        return result

    def reproduce(self, address: str) -> str:
        """The command line that grades one scenario again."""
        installed = any(plugin.__name__ == "pytest_fastkernels.plugin"
                        for plugin, _ in self.config.pluginmanager.list_plugin_distinfo() if hasattr(plugin, "__name__"))
        words = ["pytest", address] if installed else ["python", "-m", "pytest", "-p", "pytest_fastkernels.plugin", address]
        settings = self.settings
        for name in ("candidates", "manifest", "self_test", "device", "baseline", "no_timing", "timeout", "min_speedup"):
            flag, value = BY_NAME[name].flag, getattr(settings, name)
            if flag in settings.given or (value is not None and name in ("candidates", "manifest")):
                words.append(flag if value is True else f"{flag}={self._shown(value)}")
        return shlex.join([*words, f"--fk-seed={self.run.seed}"])

    def _shown(self, value: object) -> str:
        folder = f"{self.config.invocation_params.dir}/"
        return str(value).removeprefix(folder)

    def receive(self, report: pytest.TestReport) -> None:
        """Take the results that a test's report carries; a scenario whose grading broke still gets one."""
        from pytest_fastkernels.items import from_wire

        results = from_wire(getattr(report, KEY, ()))
        scenario = self.record.expected.get(report.nodeid)
        if scenario and report.failed and not results and scenario.id not in self.record.graded:
            results = [self.record.lost(scenario, report.longreprtext, device=self.device, seed=self.run.seed,
                                        self_test=self.plan.self_test, reproduce=self.reproduce(scenario.id),
                                        baseline_provider="native")]
        self.record.results += results
        for result in results:
            if self.benchmark:
                self.benchmark.add(report.nodeid, result)
        self.report.scenario_done(report.nodeid, results)

    def finish(self, session: pytest.Session) -> None:
        """Write the results file, and let no run with a failing verdict or without a result be green."""
