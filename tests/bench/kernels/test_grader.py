"""Sharing, resuming, order and honesty of the grader; the judge and the timers have tests of their own."""

import os
import signal
import threading
import time

import pytest
from results_by_hand import passed, rms_norm, silu_and_mul

from fastkernels.bench.kernels import GraderSettings, KernelGrader, start_log
from fastkernels.bench.kernels.pipeline import Found
from fastkernels.bench.kernels.workers import Workers
from fastkernels.errors import CandidateError, WorkerError
from fastkernels.results import Noise, Verdict

HERE = GraderSettings(device="cpu", seed=3, max_time_s=0.1, self_test=True)


@pytest.fixture(scope="module")
def grader():
    with KernelGrader(HERE) as grader:
        yield grader


@pytest.fixture
def log(tmp_path):
    start_log(tmp_path / "kernels.jsonl")
    return tmp_path / "kernels.jsonl"


def without_workers(log, settings=HERE, find=None):
    """A grader whose findings come from `find`, or that must not grade at all."""
    grader = KernelGrader(settings, log)
    grader._find = find or (lambda scenario, reached: pytest.fail(f"{scenario.id} was graded again"))
    return grader


def test_a_self_test_passes_with_times_and_says_so(grader, clocks_agree):
    result = grader.grade(rms_norm(tokens=3))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.self_test
    assert result.baseline_provider == "native"
    assert (result.replaced, result.candidate_path, result.candidate_sha256) == ((), None, None)
    assert result.correctness is not None
    assert result.correctness.max_error_ratio <= 1
    assert result.timing is not None
    assert result.timing.speedup_low <= result.timing.speedup <= result.timing.speedup_high
    assert result.timing.bytes == 2 * (2 * 3 * 32 + 32)
    assert 0 < result.overhead_s < result.wall_s


@pytest.mark.parametrize("scenario", [rms_norm(tokens=1, residual=True), silu_and_mul()], ids=["two", "no weights"])
def test_other_operators_pass_on_the_same_workers(grader, scenario):
    grader.grade(rms_norm(tokens=5))
    before = grader.worker_pids()
    result = grader.grade(scenario)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert grader.worker_pids() == before


def test_without_a_log_equal_scenarios_are_still_graded_once(grader):
    first, second = grader.grade(rms_norm(model="a", tokens=2)), grader.grade(rms_norm(model="b", tokens=2))
    assert second.shared_with == first.id == "rms_norm[a-tp1-s2]"
    assert second.id == "rms_norm[b-tp1-s2]"
    assert (second.model, second.timing, second.correctness) == ("b", first.timing, first.correctness)
    assert (second.wall_s, second.overhead_s) == (0.0, 0.0)
    assert "--fk-model=b" in second.reproduce


def test_too_slow_is_a_verdict_with_its_timing(grader, clocks_agree):
    with KernelGrader(GraderSettings(**{**HERE.__dict__, "min_speedup": 50.0})) as demanding:
        demanding._workers = grader._workers
        result = demanding.grade(rms_norm(tokens=7))
        demanding._workers = Workers(demanding.settings, "cpu")
    assert result.verdict is Verdict.TOO_SLOW
    assert result.timing is not None
    assert "is under the demanded 50" in result.message


def test_the_environment_tells_the_machine(grader):
    environment = grader.environment()
    assert environment["gpu"] is None
    assert environment["versions"]["torch"]


def test_a_resumed_run_keeps_what_is_finished(log):
    finished = passed(rms_norm(tokens=1), self_test=True)
    conditions = f"{HERE.fingerprint}-baseline"
    KernelGrader(HERE, log)._log.append(conditions, finished)
    resumed = without_workers(log)
    assert resumed.finished(rms_norm(tokens=1)) == finished
    assert resumed.grade(rms_norm(tokens=1)) == finished
    assert resumed.grade(rms_norm(tokens=1, model="b")).shared_with == finished.id
    assert resumed.finished(rms_norm(tokens=2)) is None
    assert len(log.read_text().splitlines()) == 2


def test_a_noisy_result_is_shared_by_equal_shapes_of_its_run_and_graded_again_by_a_resumed_one(log):
    graded = []

    def find(scenario, reached):
        graded.append(scenario.id)
        return Found(provider="native", noise=Noise("busy"))

    first = without_workers(log, find=find)
    assert first.grade(rms_norm(model="a")).noise == Noise("busy")
    shared = first.grade(rms_norm(model="b"))
    assert (shared.noise, shared.shared_with) == (Noise("busy"), "rms_norm[a-tp1-s4]")
    resumed = without_workers(log, GraderSettings(**{**HERE.__dict__, "seed": HERE.seed + 1}), find)
    resumed.grade(rms_norm(model="a"))
    assert graded == ["rms_norm[a-tp1-s4]"] * 2


def test_other_settings_candidates_or_shapes_are_graded_anew(log, tmp_path):
    KernelGrader(HERE, log)._log.append(f"{HERE.fingerprint}-baseline", passed(rms_norm(tokens=1)))
    for settings in (GraderSettings(device="cpu", self_test=True, timing=False),
                     GraderSettings(device="cpu", self_test=True, num_runs=7)):
        assert without_workers(log, settings).finished(rms_norm(tokens=1)) is None
    folder = tmp_path / "candidates"
    (folder / "L1").mkdir(parents=True)
    (folder / "L1" / "rms_norm.py").write_text("x = 1\n")
    with_candidate = GraderSettings(**{**HERE.__dict__, "self_test": False, "candidates_dir": folder})
    assert without_workers(log, with_candidate).finished(rms_norm(tokens=1)) is None
    assert without_workers(log).finished(rms_norm(tokens=1, hidden=64)) is None


def test_processes_that_share_a_log_grade_equal_scenarios_once(log):
    graded, results = [], []

    def find(scenario, reached):
        graded.append(scenario.id)
        time.sleep(0.2)
        return Found(provider="native")

    def one(model):
        results.append(without_workers(log, find=find).grade(rms_norm(model=model)))

    threads = [threading.Thread(target=one, args=(model,)) for model in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(graded) == 1
    assert sorted(result.id for result in results) == [f"rms_norm[{model}-tp1-s4]" for model in "abcd"]
    assert [result.shared_with for result in results].count(graded[0]) == 3


class BrokenWorkers(Workers):
    started = 0

    def ready(self, directory, loaded):
        self.started += 1

    def candidate(self, request):
        raise WorkerError("the trusted worker: judge\nTraceback: ...")


def test_a_harness_that_fails_twice_is_neither_green_nor_the_candidates_fault(log):
    grader = KernelGrader(HERE, log)
    grader._workers = workers = BrokenWorkers(HERE, "cpu")
    result = grader.grade(rms_norm())
    assert workers.started == 2
    assert result.verdict is Verdict.TASK_INVALID
    assert result.message == "the harness failed: the trusted worker: judge"
    assert "Traceback" in result.evidence
    assert KernelGrader(HERE, log).finished(rms_norm()) is None  # a resumed run tries again


def test_a_finding_about_an_import_that_is_taken_over_has_waited_for_nobody(monkeypatch, log):
    """The first one's waiting time was taken off the second one's wall time, which then was negative."""
    grader = KernelGrader(HERE, log)
    runs = []

    def run(scenario, directory, loaded):
        runs.append(scenario.id)
        time.sleep(0.01)
        return Found(verdict=Verdict.HUNG, message="no answer (import)", ran_s=0.001, waited_s=0.005)

    monkeypatch.setattr(grader, "_run", run)
    first, second = grader.grade(rms_norm(tokens=1)), grader.grade(rms_norm(tokens=2))
    assert (first.verdict, second.verdict) == (Verdict.HUNG, Verdict.HUNG)
    assert len(runs) == 1
    assert all(0 <= result.overhead_s <= result.wall_s for result in (first, second))
    assert second.overhead_s == second.wall_s  # no graded code ran for it
    assert first.overhead_s < first.wall_s


def test_a_harness_out_of_memory_says_what_helps(monkeypatch, log):
    def judge(self, request):
        raise WorkerError("the trusted worker: judge\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(BrokenWorkers, "candidate", judge)
    grader = KernelGrader(HERE, log)
    grader._workers = BrokenWorkers(HERE, "cpu")
    result = grader.grade(rms_norm())
    assert result.verdict is Verdict.TASK_INVALID
    assert result.message == ("the harness failed: the trusted worker: judge; it ran out of memory: fewer workers (-n) "
                              "leave it more")


def test_a_trusted_worker_that_dies_once_costs_nothing(grader):
    grader.grade(rms_norm(tokens=5))
    os.kill(grader._workers.trusted_side.process.pid, signal.SIGKILL)
    assert grader.grade(rms_norm(tokens=6)).verdict is Verdict.PASSED


def test_a_closed_grader_has_no_processes_and_can_be_used_again(grader):
    grader.close()
    assert grader.worker_pids() == set()
    assert grader.grade(rms_norm(tokens=8)).verdict is Verdict.PASSED


def test_a_missing_candidate_directory_is_an_error(tmp_path):
    with pytest.raises(CandidateError, match="no such"):
        KernelGrader(GraderSettings(device="cpu", candidates_dir=tmp_path / "none")).grade(rms_norm())
