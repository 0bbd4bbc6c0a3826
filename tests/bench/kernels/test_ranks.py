"""A scenario of several ranks: each is called at once on a part of its own, and each rank's sum is judged."""

import pytest
from ranks_by_hand import HONEST, WRONG_OR_LOST, allreduce, check_named, check_replaced, graded
from results_by_hand import HANG_S, rms_norm

from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.kernels import GraderSettings, KernelGrader, settings
from fastkernels.bench.kernels.limits import left_out
from fastkernels.bench.kernels.rank_group import RankGroup, RankWorkers
from fastkernels.bench.kernels.workers import START_TIMEOUT_S, CandidateFailedError
from fastkernels.errors import DeviceError
from fastkernels.results import Verdict


@pytest.mark.parametrize(("forward", "verdict", "says"), WRONG_OR_LOST)
def test_a_rank_that_is_wrong_or_lost_is_named(tmp_path, forward, verdict, says):
    check_named(tmp_path, forward, verdict, says, "cpu", HANG_S if verdict is Verdict.HUNG else 60.0)


def test_an_honest_sum_passes_and_is_not_timed(tmp_path):
    result = graded(tmp_path, HONEST, "cpu")
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.timing is None
    assert result.correctness.draws > 8


def test_the_baseline_passes_on_four_ranks_and_alone_again_afterwards():
    with KernelGrader(GraderSettings(device="cpu", self_test=True, timing=False)) as opened:
        results = [opened.grade(one) for one in (allreduce(4), allreduce(2), rms_norm(), allreduce(2, tokens=1))]
        assert [result.verdict for result in results] == [Verdict.PASSED] * 4, [r.message for r in results]
        assert len(opened.worker_pids()) == 3, "two ranks and who judges them"
        opened.close()
        assert opened.worker_pids() == set()


def test_ranks_that_do_not_meet_are_the_harness_s_fault(monkeypatch):
    def refused(self, request):
        if request["do"] == "join" and self.rank == 1:
            raise CandidateFailedError(Verdict.NO_RESULT, "refused", "")
        return answer(self, request)

    answer = RankWorkers.candidate
    monkeypatch.setattr(RankWorkers, "candidate", refused)
    with KernelGrader(GraderSettings(device="cpu", self_test=True, timing=False)) as opened:
        result = opened.grade(allreduce())
    assert result.verdict is Verdict.TASK_INVALID
    assert "2 ranks did not meet: refused" in result.message


def test_all_ranks_of_one_that_hangs_are_replaced(tmp_path):
    check_replaced(tmp_path, "cpu", HANG_S)


def test_the_repeated_call_is_made_in_order_and_joining_is_no_candidate_s_time(monkeypatch):
    def noted_post(self, message):
        self.asked = message
        post(self, message)

    def noted_answer(self, timeout_s):
        asked.append((self.asked["do"], timeout_s, self.asked.get("in_order")))
        return answer(self, timeout_s)

    asked, post, answer = [], WorkerProcess.post, WorkerProcess.answer
    monkeypatch.setattr(WorkerProcess, "post", noted_post)
    monkeypatch.setattr(WorkerProcess, "answer", noted_answer)
    with KernelGrader(GraderSettings(device="cpu", self_test=True, timeout_s=45.0)) as opened:
        assert opened.grade(allreduce()).verdict is Verdict.PASSED
    assert {timeout_s for what, timeout_s, _ in asked if what in ("meet", "join")} == {START_TIMEOUT_S}
    calls = [(timeout_s, in_order) for what, timeout_s, in_order in asked if what == "call"]
    assert calls[:-2] == [(45.0, False)] * (len(calls) - 2)
    assert calls[-2:] == [(45.0, True)] * 2


@pytest.mark.parametrize(("gpus", "ranks", "reason"), [
    (1, 2, "2 ranks at once: 1 GPU here"), (2, 2, None), (2, 4, "4 ranks at once: 2 GPUs here"),
    (2, 8, "8 ranks at once: 2 GPUs here"), (8, 8, None)])
def test_more_ranks_than_gpus_are_left_out(monkeypatch, gpus, ranks, reason):
    monkeypatch.setattr(settings, "cuda_missing", lambda: None)
    monkeypatch.setattr(settings, "cuda_device_count", lambda: gpus)
    on_cuda = GraderSettings(device="cuda", seqlens=(8,))
    found = left_out(allreduce(ranks), on_cuda)
    assert (found and found.reason) == reason
    assert left_out(rms_norm(tokens=8), on_cuda) is None
    assert left_out(allreduce(ranks), GraderSettings(device="cpu", seqlens=(8,))) is None
    if reason:
        with pytest.raises(DeviceError, match=reason):
            RankGroup(on_cuda, "cuda", ranks)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_ranks_need_a_network(monkeypatch, device):
    monkeypatch.setattr(settings, "cuda_missing", lambda: None)
    monkeypatch.setattr(settings, "cuda_device_count", lambda: 2)
    required = GraderSettings(device=device, seqlens=(8,), sandbox="require")
    assert left_out(allreduce(), required).reason == "2 ranks at once: not under --fk-sandbox=require: " \
                                                     "ranks need a network"


class Unstarted:
    """Notes where a worker's process would work."""

    started = ()

    def __init__(self, role, device, *rest, **more):
        Unstarted.started += ((role, device),)

    def limit_memory(self, limit_bytes):
        pass

    def post(self, message):
        assert message["do"] == "hello"

    def close(self):
        pass


@pytest.mark.parametrize(("device", "expected"), [
    ("cuda", ["cuda", "cuda:0", "cuda:1", "cuda:2"]), ("cpu", ["cpu"] * 4)])
def test_each_rank_has_a_gpu_of_its_own(monkeypatch, device, expected):
    monkeypatch.setattr(settings, "cuda_device_count", lambda: 3)
    monkeypatch.setattr("fastkernels.bench.kernels.workers.WorkerProcess", Unstarted)
    monkeypatch.setattr(Unstarted, "started", ())
    group = RankGroup(GraderSettings(device="cpu"), device, 3)
    for workers in group.workers:
        workers.ready(None, "")
    group.close()
    assert Unstarted.started == tuple(zip(["ranks"] + ["candidate"] * 3, expected, strict=True))
