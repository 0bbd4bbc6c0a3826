"""The candidate's process that is forked ahead: taken when one ends, given up when it is of no use."""

import os
import signal
import sys

import psutil
import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels.spare import Spare
from fastkernels.results import Verdict

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")

HERE = GraderSettings(device="cpu", seed=3, timing=False, self_test=True)


def pid_of_spare(grader):
    return grader._workers.spare.process.pid


def test_it_takes_the_place_of_a_process_that_has_ended():
    with KernelGrader(HERE) as grader:
        grader.grade(rms_norm(tokens=5))
        spare = pid_of_spare(grader)
        grader._workers.candidate_side.close()
        assert grader.grade(rms_norm(tokens=7)).verdict is Verdict.PASSED
        assert grader._workers.candidate_side.process.pid == spare
        pids = [spare, pid_of_spare(grader)]
    assert pids[0] != pids[1]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_one_that_has_ended_itself_costs_no_verdict():
    with KernelGrader(HERE) as grader:
        grader.grade(rms_norm(tokens=5))
        os.kill(pid_of_spare(grader), signal.SIGKILL)
        grader._workers.candidate_side.close()
        assert grader.grade(rms_norm(tokens=7)).verdict is Verdict.PASSED


def test_it_has_the_same_limit_of_memory_as_the_first():
    with KernelGrader(GraderSettings(device="cpu", seed=3, timing=False, self_test=True,
                                     memory_limit_bytes=3 * 2**30)) as grader:
        grader.grade(rms_norm(tokens=5))
        assert grader._workers.spare.process._watch.limits.memory_bytes is None  # it is told when it is taken
        grader._workers.candidate_side.close()
        grader.grade(rms_norm(tokens=7))
        assert grader._workers.candidate_side.process._watch.limits.memory_bytes == 3 * 2**30


class Process:
    """A process that answers once, or has ended."""

    def __init__(self, reply, runs=True):
        self.reply, self.runs, self.calls = reply, runs, []

    def post(self, message):
        self.calls.append("post")

    def answer(self, timeout_s):
        self.calls.append("answer")
        return self.reply

    def is_running(self):
        return self.runs

    def close(self):
        self.calls.append("close")


def test_it_is_waited_for_once_and_before_anything_is_timed():
    process = Process({})
    spare = Spare(lambda: process)
    spare.settle()
    assert process.calls == []
    spare.prepare()
    spare.prepare()
    assert process.calls == ["post"]
    spare.settle()
    spare.settle()
    assert process.calls == ["post", "answer"]
    assert spare.take() is process


@pytest.mark.parametrize("bad", [Process({"error": "no device"}), Process({}, runs=False)])
def test_one_that_is_of_no_use_is_replaced(bad):
    good = Process({})
    starts = iter([bad, good])
    spare = Spare(lambda: next(starts))
    spare.prepare()
    assert spare.take() is good


def test_there_is_none_where_each_start_takes_seconds(monkeypatch):
    monkeypatch.setenv("FASTKERNELS_WORKER_START", "exec")
    spare = Spare(lambda: pytest.fail("a process was started"))
    spare.prepare()
    spare.settle()
