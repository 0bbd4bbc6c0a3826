"""A scenario of several ranks: each is called at once on a part of its own, and each rank's sum is judged."""

from dataclasses import replace

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels.limits import left_out
from fastkernels.bench.kernels.rank_group import RankWorkers
from fastkernels.bench.kernels.workers import CandidateFailedError
from fastkernels.manifest import InputSpec, Scenario
from fastkernels.results import Verdict

HEAD = '''
import os
import time
import torch
import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def forward(self, x):
        rank, size = dist.get_rank(), dist.get_world_size()
'''

HONEST = '''
        parts = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return torch.stack([part.float() for part in parts]).sum(0).to(x.dtype)
'''
AS_IF_ALL_HAD_THE_SAME = '''
        return x * size
'''
FIRST_RANK_ONLY = '''
        own = x.clone()
        dist.all_reduce(x)
        return x if rank == 0 else own
'''
LAST_RANK_SLEEPS = '''
        if rank == size - 1:
            time.sleep(600)
        dist.all_reduce(x)
        return x
'''
LAST_RANK_EXITS = '''
        if rank == size - 1:
            os._exit(0)
        dist.all_reduce(x)
        return x
'''
LAST_RANK_RAISES = '''
        if rank == size - 1:
            raise ValueError("no peers")
        dist.all_reduce(x)
        return x
'''
STALE = '''
        first = getattr(self, "first", None)
        if first is None or first.shape != x.shape:
            dist.all_reduce(x)
            self.first = x.clone()
        return self.first.clone()
'''


def allreduce(ranks: int = 2, tokens: int = 8, hidden: int = 256) -> Scenario:
    x = InputSpec("x", "rank_part", ("tokens", hidden), "bfloat16", {"ranks": ranks})
    return Scenario(op="allreduce", module="allreduce", class_name="AllReduce", level=1, category="llm", model="tiny",
                    model_id="me/tiny", tp=ranks, tokens=tokens, phase="decode", variant="", init={}, inputs=(x,))


def graded(folder, forward, scenario=None, timeout_s=60.0):
    (folder / "L1").mkdir()
    (folder / "L1" / "allreduce.py").write_text(HEAD + forward)
    settings = GraderSettings(device="cpu", seed=3, timeout_s=timeout_s, candidates_dir=folder)
    with KernelGrader(settings) as grader:
        return grader.grade(scenario or allreduce())


@pytest.mark.parametrize(("forward", "verdict", "says"), [
    (AS_IF_ALL_HAD_THE_SAME, Verdict.WRONG_VALUES, "rank 0: output"),
    (FIRST_RANK_ONLY, Verdict.WRONG_VALUES, "rank 1: output"),
    (LAST_RANK_SLEEPS, Verdict.HUNG, "no answer within 12 s"),
    (LAST_RANK_EXITS, Verdict.EXITED, "rank 1: the process ended by itself with exit status 0"),
    (LAST_RANK_RAISES, Verdict.FORWARD_ERROR, "rank 1: forward raised ValueError: no peers"),
    (STALE, Verdict.WRONG_VALUES, "rank 0: output"),
], ids=["as if all had the same", "first rank only", "last rank sleeps", "last rank exits", "last rank raises",
        "stale"])
def test_a_rank_that_is_wrong_or_lost_is_named(tmp_path, forward, verdict, says):
    result = graded(tmp_path, forward, timeout_s=12.0)
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says in result.message


def test_an_honest_sum_passes_and_is_not_timed(tmp_path):
    result = graded(tmp_path, HONEST)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.timing is None
    assert result.correctness.draws > 8


def test_the_baseline_passes_on_four_ranks_and_alone_again_afterwards():
    with KernelGrader(GraderSettings(device="cpu", self_test=True, timing=False)) as grader:
        results = [grader.grade(one) for one in (allreduce(4), allreduce(2), rms_norm(), allreduce(2, tokens=1))]
        assert [result.verdict for result in results] == [Verdict.PASSED] * 4, [r.message for r in results]
        assert len(grader.worker_pids()) == 3, "two ranks and who judges them"
        grader.close()
        assert grader.worker_pids() == set()


def test_ranks_that_do_not_meet_are_the_harness_s_fault(monkeypatch):
    def refused(self, request):
        if request["do"] == "join" and self.rank == 1:
            raise CandidateFailedError(Verdict.NO_RESULT, "refused", "")
        return answer(self, request)

    answer = RankWorkers.candidate
    monkeypatch.setattr(RankWorkers, "candidate", refused)
    with KernelGrader(GraderSettings(device="cpu", self_test=True, timing=False)) as grader:
        result = grader.grade(allreduce())
    assert result.verdict is Verdict.TASK_INVALID
    assert "2 ranks did not meet: refused" in result.message


def test_where_ranks_cannot_be_graded_they_are_left_out(monkeypatch):
    settings = GraderSettings(device="cpu", seqlens=(8,))
    assert left_out(allreduce(), settings) is None
    assert "--fk-sandbox=require" in left_out(allreduce(), replace(settings, sandbox="require")).reason
    monkeypatch.setattr("fastkernels.bench.kernels.limits.resolve_device", lambda device: "cuda")
    assert left_out(allreduce(), settings).reason == "2 ranks at once: a CPU's only so far"
