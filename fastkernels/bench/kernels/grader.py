"""Grades scenarios with two worker processes that stay warm between them."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from fastkernels.bench.isolate import launch
from fastkernels.bench.isolate.sandbox import Sandbox, find_sandbox
from fastkernels.bench.kernels import limits
from fastkernels.bench.kernels.advice import advised
from fastkernels.bench.kernels.builds import Building, Builds
from fastkernels.bench.kernels.candidates import CandidateFiles, Reached
from fastkernels.bench.kernels.deadline import Deadline
from fastkernels.bench.kernels.locks import log_lock_dir, scenario_lock
from fastkernels.bench.kernels.log import ResultLog
from fastkernels.bench.kernels.pipeline import Attempt, Found, failed_harness, run
from fastkernels.bench.kernels.rank_group import RankGroup
from fastkernels.bench.kernels.ranks import RanksAttempt
from fastkernels.bench.kernels.reproduce import command
from fastkernels.bench.kernels.said import Said
from fastkernels.bench.kernels.settings import GraderSettings, resolve_device
from fastkernels.bench.kernels.shared_builds import SharedBuilds
from fastkernels.bench.kernels.workers import Workers
from fastkernels.bench.timing import describe_environment
from fastkernels.errors import DeviceError, WorkerError
from fastkernels.manifest import Scenario
from fastkernels.results import LeftOut, ScenarioResult
from fastkernels.results.text import plain

NOT_KEPT = "not kept"
"""Conditions of a result that says nothing about the candidate: a resumed run grades it again."""

LAST_WORDS = "Fatal Python error: "
"""Begins what Python writes where a signal ends it."""

ATTEMPTS = 2
"""Times that a scenario is tried when the harness itself fails."""


class KernelGrader:
    """Grades one scenario at a time; starts its worker processes at the first one and keeps them.

    Several graders in several processes may share `log_path` and `lock_dir`: scenarios of equal shape_key are then
    graded once, and timing takes turns per device. Also a context manager.
    """

    device: str
    """`cpu` or `cuda`, once `auto` is resolved."""
    log_error: str
    """Why the log lacks results of this grader; empty where it holds all of them."""
    deadline: Deadline
    """When the scenario that is graded must have ended; a candidate that is waited for then is `hung`."""

    def __init__(self, settings: GraderSettings, log_path: Path | None = None, lock_dir: Path | None = None,
                 live: Callable[[str], None] | None = None) -> None:
        """log_path: the run's JSON-lines log (see `start_log`), None for none; what it already holds is not graded
        again. lock_dir: where the locks of equal scenarios lie, for several processes on one log; by default one
        directory per log among this user's temporary files. live: told what candidates print, as they print it.
        """
        self.settings = settings
        self.device = resolve_device(settings.device)
        missing = self.sandbox.missing() if settings.sandbox == "require" else ""
        if missing:
            raise DeviceError(f"sandbox require: {missing}; allowed here: auto, off")
        self.log_error = ""
        self.deadline = Deadline()
        self._log = ResultLog(log_path)
        self._lock_dir = lock_dir or (log_lock_dir(log_path) if log_path else None)
        self._builds = Builds(self._lock_dir)
        self._shared = SharedBuilds(self._builds, settings.longest_build_s)
        unseen = (path.absolute() for path in (log_path, settings.dump) if path is not None)
        self._workers = Workers(settings, self.device, tuple(unseen),
                                builds=self._shared, deadline=self.deadline, said=Said(live))
        self._ranks: RankGroup | None = None
        self._files: CandidateFiles | None = None
        self._broken: dict[tuple[str, str], Found] = {}
        self._swept: dict[str, str] = {}
        self._environment: dict[str, Any] | None = None

    def prepare(self) -> None:
        """Begin to start what the first `grade` needs, so that torch is imported meanwhile; returns at once."""
        launch.prepare()

    def share(self) -> dict[str, str]:
        """Environment variables that let graders of processes below use what this process has prepared."""
        return launch.share()

    def grade(self, scenario: Scenario) -> ScenarioResult:
        """Grade one scenario, or return the finished result of an equal one; appends to the log.

        Never raises for what a candidate does, and a result that the log cannot take is returned all the same
        (`log_error`). FastKernelsError where the candidate directory or the device cannot be used at all. Whatever
        interrupts it, such as Ctrl+C or a test runner's time limit, passes through, and the next call starts anew.
        """
        reached = self._reached(scenario)
        conditions = self._conditions(reached)
        with scenario_lock(self._lock_dir, scenario.shape_key) if self._lock_dir else nullcontext():
            known = self._log.find(scenario.id, scenario.shape_key, conditions, self._this_run(conditions))
            if known is not None:
                return known
            equal = self._log.find_equal(scenario.shape_key, conditions, self._this_run(conditions))
            if equal is not None:
                result = _readdressed(equal, scenario, self.settings)
            else:
                found, result = self._grade(scenario, reached)
                conditions = NOT_KEPT if found.harness_failed else conditions
            conditions = self._this_run(conditions) if result.noise is not None else conditions
            self._keep(conditions, result)
            return result

    def _keep(self, conditions: str, result: ScenarioResult) -> None:
        try:
            self._log.append(conditions, result)
        except OSError as error:
            self.log_error = str(error)

    def finished(self, scenario: Scenario) -> ScenarioResult | None:
        """The result that the log holds for this address under these settings and candidate files, or None."""
        return self._log.find(scenario.id, scenario.shape_key, self._conditions(self._reached(scenario)))

    def left_out(self, scenario: Scenario) -> LeftOut | None:
        """Why this scenario is not graded on this machine, or None (see `limits.left_out`)."""
        return limits.left_out(scenario, self.settings)

    def environment(self) -> dict[str, Any]:
        """Machine, device, driver, clocks, versions and commit, for `KernelBenchResult.environment`."""
        if self._environment is None:
            running = self._workers.trusted_side.process is not None  # it knows the threads of torch besides
            self._environment = (self._workers.trusted({"do": "environment"})["environment"] if running
                                 else describe_environment(self.device))
        return {**self._environment, "sandbox": self.sandbox.to_dict()}

    @property
    def sandbox(self) -> Sandbox:
        """What the candidate's process is kept from here."""
        return find_sandbox(self.settings.sandbox, self.device)

    def worker_pids(self) -> set[int]:
        """Process ids of the workers that are running, spare ones included."""
        every = (self._workers, *(self._ranks.workers if self._ranks is not None else ()))
        return {pid for workers in every for pid in workers.pids()}

    def under_way(self) -> list[Building]:
        """Candidates that this run's graders are importing or building now, the longest first."""
        return self._builds.under_way()

    def close(self) -> None:
        """End both workers and everything that they started; the grader may be used again afterwards."""
        self._end_workers()
        self._builds.close()

    def _end_workers(self) -> None:
        self._workers.close()
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def __enter__(self) -> "KernelGrader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _reached(self, scenario: Scenario) -> Reached:
        if self._files is None:
            self._files = CandidateFiles(self.settings.candidates_dir, self.settings.self_test,
                                         self.settings.allow_passthrough)
        elif self._files.refresh():
            self._broken.clear()
        return self._files.reached(scenario.relative_module)

    def _this_run(self, conditions: str) -> str:
        """Conditions of a noisy result: equal shapes of this run take it over, a resumed run grades it again."""
        return f"{conditions}-noisy-{self.settings.seed}"

    def _conditions(self, reached: Reached) -> str:
        return f"{self.settings.fingerprint}-{(reached.sha256 or 'baseline')[:16]}"

    def _grade(self, scenario: Scenario, reached: Reached) -> tuple[Found, ScenarioResult]:
        started, self._shared.waited_s = time.monotonic(), 0.0
        self._workers.said.take()
        found = self._find(scenario, reached)
        wall_s = time.monotonic() - started - found.waited_s - self._shared.waited_s
        return found, ScenarioResult(
            id=scenario.id, op=scenario.op, level=scenario.level, model=scenario.model, model_id=scenario.model_id,
            tp=scenario.tp, tokens=scenario.tokens, phase=scenario.phase, variant=scenario.variant,
            category=scenario.category, shape_key=scenario.shape_key, verdict=found.verdict,
            message=plain(advised(found.verdict, found.message, found.evidence)), device=self.device,
            baseline_provider=found.provider, self_test=not reached.modules,
            candidate_path=reached.path, candidate_sha256=reached.sha256, replaced=reached.modules,
            ran_through=found.ran_through, correctness=found.correctness, sweep=found.sweep, timing=found.timing,
            noise=found.noise, gates=found.gates, evidence=plain(found.evidence), output=self._output(),
            seed=self.settings.seed, wall_s=wall_s, overhead_s=max(0.0, wall_s - found.ran_s), dump=found.dump,
            reproduce=command(scenario, self.settings))

    def _output(self) -> str:
        """What the candidate has printed; what Python writes of its process's end is evidence."""
        self._workers.listen()
        return self._workers.said.take().partition(LAST_WORDS)[0].rstrip()

    def _find(self, scenario: Scenario, reached: Reached) -> Found:
        """What is wrong with the candidate, or that nothing is."""
        if reached.problem is not None:
            head, _, rest = reached.problem[1].partition("\n")
            return Found(verdict=reached.problem[0], message=head, evidence=rest)
        loaded = reached.fingerprint
        broken = self._broken.get((scenario.relative_module, loaded))
        if broken is not None:
            return replace(broken, ran_s=0.0, waited_s=0.0)
        for number in range(1, ATTEMPTS + 1):
            try:
                found = self._run(scenario, self._directory(reached), loaded)
            except WorkerError as error:
                self._end_workers()
                if number == ATTEMPTS:
                    return failed_harness(error)
            except BaseException:  # an interrupt, wherever it came: no process is asked again that may be half way
                self._end_workers()
                raise
            else:
                if not (found.imported or self.deadline.passed):  # it would end alike, after as long, every time
                    self._broken[scenario.relative_module, loaded] = found
                return found
        raise AssertionError("unreachable")

    def _run(self, scenario: Scenario, directory: Path | None, loaded: str) -> Found:
        """Grade with the workers that this scenario takes; ranks of another one are ended first."""
        if self._ranks is not None and self._ranks.size != scenario.ranks:
            self._ranks.close()
            self._ranks = None
        if scenario.ranks == 1:
            self._workers.hide(scenario)
            self._workers.ready(directory, loaded)
            return run(Attempt(self._workers, self.settings, scenario, loaded=loaded, swept=self._swept))
        if self._ranks is None:
            self._workers.close()
            self._ranks = RankGroup(self.settings, self.device, scenario.ranks, self.deadline, self._workers.said)
        return RanksAttempt(self._ranks, self.settings, scenario).run(directory, loaded)

    def _directory(self, reached: Reached) -> Path | None:
        return self._files.directory if self._files is not None and reached.modules else None


def _readdressed(equal: ScenarioResult, scenario: Scenario, settings: GraderSettings) -> ScenarioResult:
    """The result of an equal computation under this scenario's address."""
    return replace(
        equal, id=scenario.id, op=scenario.op, model=scenario.model, model_id=scenario.model_id, tp=scenario.tp,
        tokens=scenario.tokens, variant=scenario.variant, category=scenario.category, shared_with=equal.id,
        output="", wall_s=0.0, overhead_s=0.0, reproduce=command(scenario, settings))
