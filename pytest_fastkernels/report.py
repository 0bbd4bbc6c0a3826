"""What a run prints: header, a line for each group as it ends, then the table and what else must be known."""

import os
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from fastkernels.bench.kernels.locks import waiting_since
from fastkernels.results import LeftOut, ScenarioResult, Verdict
from pytest_fastkernels.estimate import Estimate, duration, long_run_lines
from pytest_fastkernels.findings import Findings
from pytest_fastkernels.grading import compiling
from pytest_fastkernels.progress import Progress
from pytest_fastkernels.record import from_wire
from pytest_fastkernels.table import NOISY, WIDTH, make_table, seconds, speedup_text
from pytest_fastkernels.xdist_bridge import KEY

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from pytest_fastkernels.session import FkSession

NAMED = 3
"""Scenarios that are named for each reason to be left out; the results file names all."""
ROWS_LIVE = 60
"""Shapes up to which each has a line as it is graded; in a larger run each operator and model has one."""
WAITING_S = 3.0
"""Seconds from which on a wait for another grader is shown."""


def counted(results: Iterable[ScenarioResult]) -> str:
    """Write `26 passed, 2 wrong_values`."""
    counts: dict[str, int] = {}
    for result in results:
        counts[str(result.verdict)] = counts.get(str(result.verdict), 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items(), key=lambda c: c[0] != "passed"))


def plural(count: int, noun: str) -> str:
    """Write `1 scenario`, `2 scenarios`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def gate_lines(results: Iterable[ScenarioResult]) -> list[str]:
    """One line for each deployment gate that failed, with its first reason; equal shapes count each."""
    failed: dict[str, list[ScenarioResult]] = {}
    for result in results:
        for name, gate in result.gates.items():
            if gate.failed:
                failed.setdefault(name, []).append(result)
    return [f"gate {name} failed in {plural(len(found), 'scenario')}, first {found[0].id}: "
            f"{found[0].gates[name].reason}" for name, found in failed.items()]


class Group:
    """The scenarios of one operator and model."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.results: list[ScenarioResult] = []
        self.wall_s = 0.0


class Report:
    """The terminal side of one run; silent where pytest has no terminal reporter."""

    def __init__(self, fk: "FkSession") -> None:
        self.fk = fk
        self.reporter: pytest.TerminalReporter | None = fk.config.pluginmanager.get_plugin("terminalreporter")
        self.verbosity = fk.config.get_verbosity()
        self.groups: dict[tuple[str, str], Group] = {}
        self.running: dict[str, float] = {}
        self.progress: Progress | None = None
        self.estimate: Estimate | None = None
        self.notes: list[str] = []
        self.is_printed = False

    @property
    def by_group(self) -> bool:
        """True where group lines stand in for pytest's letters."""
        return self.reporter is not None and self.verbosity == 0

    def header(self) -> list[str]:
        """What will be graded, and how long it takes where that is long."""
        plan = self.fk.plan
        graded = plan.graded
        what = "self-test of the baseline" if plan.self_test else (
            f"candidates {', '.join(plan.candidates)} in {self.fk.shown(plan.candidates_directory)}")
        ops, models = len({s.op for s in graded}), len({s.model for s in graded})
        lines = [f"fastkernels: {plural(len(graded), 'scenario')} of {plural(ops, 'operator')} and "
                 f"{plural(models, 'model')} on {self.fk.device}; {what}"]
        return lines + long_run_lines(self._estimated(graded), ("--fk-model, --fk-tp and --fk-seqlen",))

    def _estimated(self, scenarios: Iterable["Scenario"]) -> Estimate:
        processes = len(self.fk.config.option.tx) if self.fk.is_controller else 1
        return Estimate(scenarios, self.fk.device, not self.fk.settings.no_timing, processes)

    def start(self) -> None:
        """Keep pytest from printing each address as if it were a file."""
        if self.reporter is not None and self.fk.run.paths == ():
            self.reporter.showfspath = False

    def begin(self) -> None:
        """Group what will run; called once the items are known."""
        if not self.by_group or self.progress or self.reporter is None:
            return
        for node_id, scenario in self.fk.record.expected.items():
            self.groups.setdefault((scenario.op, scenario.model), Group()).waiting.add(node_id)
        self.estimate = self._estimated(self.fk.record.expected.values())
        self.progress = Progress(self.reporter, self._describe)
        self.progress.start()

    def started(self, node_id: str) -> None:
        """Note that a scenario runs."""
        self.running[node_id] = time.monotonic()

    def ended(self, node_id: str) -> None:
        """Note that a scenario no longer runs."""
        self.running.pop(node_id, None)

    def status(self, report: pytest.TestReport, status: Any) -> Any:
        """Word one report for pytest: silent where a group line tells of it, with the finding under -v."""
        category, letter, word = status
        mine = report.nodeid in self.fk.record.expected
        if self.by_group and mine and word:
            return category, "", word  # pytest's short summary still needs the word
        results = from_wire(getattr(report, KEY, ()))
        if results and self.verbosity > 0 and isinstance(word, str):
            markup = {"green": True} if report.passed else {"red": True}
            return category, letter, (status_word(results, word), markup)
        return status

    def scenario_done(self, node_id: str, results: Sequence[ScenarioResult]) -> None:
        """Print a line for a shape that is done, or in a large run for a group whose last scenario is done."""
        scenario = self.fk.record.expected.get(node_id)
        group = self.groups.get((scenario.op, scenario.model)) if scenario else None
        if not scenario or not group or not results:
            return
        group.waiting.discard(node_id)
        group.results += results
        group.wall_s += sum(result.wall_s for result in results if not result.shared_with)
        if self.progress and self.estimate:
            self.estimate.note(results, self.fk.record.wall_s)
            self._write_done(self.progress, scenario, group, results)
            if not any(other.waiting for other in self.groups.values()):
                self.progress.stop()

    def _write_done(self, progress: Progress, scenario: "Scenario", group: Group,
                    results: Sequence[ScenarioResult]) -> None:
        if self.estimate is None or self.estimate.shapes > ROWS_LIVE:
            if not group.waiting:
                ok = all(result.verdict.ok for result in group.results)
                line = _group_line(scenario.op, scenario.model, group) + self._left()
                progress.write_line(line, green=ok, red=not ok)
            return
        width = max(len(planned.id) for planned in self.fk.record.expected.values())
        for result in results:
            if not result.shared_with:
                line = f"{result.id:<{width}} {_finding(result)}{self._left()}"
                progress.write_line(line, green=result.verdict.ok, red=not result.verdict.ok)

    def _left(self) -> str:
        """`  about 40 s left`; empty where nothing is known, or nothing left."""
        left_s = self.estimate.left_s() if self.estimate else None
        return f"  about {duration(left_s)} left" if left_s else ""

    def said(self, text: str) -> None:
        """Show what a candidate prints as it prints it (-s)."""
        if self.progress:
            self.progress.write(text)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()

    def shown_failures(self, failed: list[pytest.TestReport]) -> list[pytest.TestReport]:
        """Choose the failures that pytest words: one for each finding, SHOWN_FAILURES at most; -v words all."""
        mine = [report for report in failed if report.nodeid in self.fk.record.expected]
        if self.verbosity > 0:
            return failed
        found = Findings(mine)
        found.tell_of_others()
        self.notes.append(found.note)
        shown, own = found.shown, {report.nodeid for report in mine}
        return [report for report in failed if report.nodeid in shown or report.nodeid not in own]

    def finish(self) -> None:
        """End the progress line."""
        if self.progress:
            self.progress.stop()

    def summary(self, reporter: pytest.TerminalReporter) -> None:
        """Print the table and the footer."""
        self.is_printed = True
        results = self.fk.record.results
        if results:
            reporter.write_sep("=", "kernels")
            table = make_table(results, self.verbosity > 0)
            for number, (line, ok) in enumerate(table.lines if self.verbosity > -2 else ()):
                reporter.write_line(line, bold=number == 0, red=not ok)
            if table.note and self.verbosity > -2:
                self._write_folded(reporter, f"({table.note})")
        else:
            reporter.write_line("no scenario was graded", red=True)
        for line in self._footer(results) if results or self.fk.run.collects else ():
            self._write_folded(reporter, line)

    def write_now(self, reporter: pytest.TerminalReporter, text: str) -> None:
        """Print a line and see that it is on the screen."""
        self._write_folded(reporter, text)
        reporter.flush()

    @staticmethod
    def _write_folded(reporter: pytest.TerminalReporter, text: str) -> None:
        for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False):
            reporter.write_line(line)

    def _footer(self, results: Sequence[ScenarioResult]) -> list[str]:
        fk = self.fk
        shapes = sum(1 for result in results if not result.shared_with)
        kind = ", self-test" if results and all(result.self_test for result in results) else ""
        lines = [f"graded {plural(len(results), 'scenario')} ({plural(shapes, 'shape')}) on {fk.device} in "
                 f"{fk.record.wall_s:.1f} s{kind}: {counted(results)}"] if results else []
        lines += noise_lines(results)
        lines += gate_lines(results)
        lines += uncaptured_lines(results)
        lines += package_lines(results)
        lines += _left_out_lines(fk.left_out())
        for found in fk.plan.subsumed:
            why = "has no effect: nothing selected uses it"
            if found.by:
                why = f"is subsumed: {found.by} no longer uses it"
            lines.append(f"candidate {found.candidate} {why}")
        if fk.settings.dump is not None and results and not any(result.dump for result in results):
            lines.append("--fk-dump: no call went wrong, nothing was written")
        lines.append(f"seed: {fk.run.seed}")
        lines += [note for note in self.notes if note]
        if self.reporter is not None and not self.reporter.showheader and fk.output is not None:
            lines += fk.output.notes
        return [*lines, fk.output.described()] if results and fk.output is not None else lines

    def _describe(self) -> str:
        record = self.fk.record
        now = time.monotonic()
        oldest = min(self.running.items(), key=lambda pair: pair[1], default=("", now))
        what = f", {oldest[0]} for {now - oldest[1]:.0f} s" if oldest[0] else ""
        building = compiling(self.fk)
        if building is not None:
            what = f", compiling {building.module.rpartition('.')[2]} for {time.time() - building.since:.0f} s"
        waited_s = time.time() - (waiting_since(os.getpid()) or time.time())
        if waited_s >= WAITING_S:
            what = f", waiting for another grader on this machine for {waited_s:.0f} s"
        return (f"fastkernels: {len(record.results)} of {len(record.expected)} graded in {record.wall_s:.0f} s"
                f"{what}{self._left().replace('  ', ', ')}")


def noise_lines(results: Sequence[ScenarioResult]) -> list[str]:
    """Say that the machine was busy, how many scenarios have no times, and what to do; nothing where all have."""
    noisy = [(result, result.noise) for result in results if result.noise]
    if not noisy:
        return []
    cores = max((noise.busy_cores or 0.0 for _, noise in noisy), default=0.0)
    others = f" (other processes took up to {cores:.1f} cores)" if cores >= 0.05 else ""
    shapes = plural(len({(result.op, result.level, result.shape_key) for result, _ in noisy}), "shape")
    first, noise = noisy[0]
    return [f"THE MACHINE WAS BUSY{others}: {len(noisy)} of {plural(len(results), 'scenario')} ({shapes}) {NOISY}: "
            "outputs were judged, there are no times, and no mean counts them. When it is quiet, the same command with "
            "--fk-resume grades these again; --fk-no-timing asks for no times",
            f"{NOISY}, first {first.id}: {noise.reason}"]


def uncaptured_lines(results: Sequence[ScenarioResult]) -> list[str]:
    """A line for each operator whose candidate is timed with its launches, since no CUDA graph can be had of it."""
    first: dict[str, str] = {}
    for result in results:
        if result.timing and result.timing.candidate_not_captured is not None:
            first.setdefault(result.op, result.timing.candidate_not_captured)
    return [f"{op}: cannot be captured in a CUDA graph, so it is timed with its launches ({reason})"
            for op, reason in first.items()]


def package_lines(results: Sequence[ScenarioResult]) -> list[str]:
    """A line for each operator whose candidate ran through installed packages, with their names."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        found.setdefault(result.op, {}).update(dict.fromkeys(result.ran_through))
    return [f"{op}: ran through {', '.join(names)}" for op, names in found.items() if names]


def status_word(results: Sequence[ScenarioResult], word: str) -> str:
    """Add verdict or speedup to pytest's word for -v: `PASSED 1.43x`."""
    result = results[-1]
    if result.verdict is not Verdict.PASSED:
        return f"{word} {result.verdict}"
    mark = " self-test" if result.self_test else ""
    if result.noise:
        return f"{word}{mark} {NOISY}"
    return f"{word}{mark} {result.timing.speedup:.2f}x" if result.timing else word + mark


def _finding(result: ScenarioResult) -> str:
    """`passed  1.33x [1.24, 1.38]  520 ms`: verdict, speedup or what is wrong, seconds."""
    word = "self-test" if result.self_test and result.verdict.ok else str(result.verdict)
    found = speedup_text(result, "")
    if not result.verdict.correct and result.correctness and not result.correctness.max_error_ratio <= 1:
        found = f"error ratio {result.correctness.max_error_ratio:.3g}"
    return f"{word:<9}  {found:<19}  {seconds(result.wall_s) if result.wall_s else '-'}"


def _group_line(op: str, model: str, group: Group) -> str:
    ratios = sorted(result.timing.speedup for result in group.results if result.timing)
    ends = list(dict.fromkeys(f"{ratio:.2f}x" for ratio in (ratios[:1] + ratios[-1:])))
    noisy = sum(result.noise is not None for result in group.results)
    speed = (f"  {' to '.join(ends)}" if ends else "") + (f"  {noisy} {NOISY}" if noisy else "")
    shared = sum(1 for result in group.results if result.shared_with)
    same = f" ({shared} by equal shape)" if shared else ""
    kind = "  self-test" if all(result.self_test for result in group.results) else ""
    took = f"  {seconds(group.wall_s)}" if group.wall_s else ""
    return f"{op:<20} {model:<16} {counted(group.results)}{same}{kind}{speed}{took}"


def _left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for left in left_out:
        by_reason.setdefault(left.reason, []).append(left.id)
    lines = []
    for reason, ids in by_reason.items():
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        lines.append(f"left out: {plural(len(ids), 'scenario')}, {reason}: {', '.join(ids[:NAMED])}{more}")
    return lines
