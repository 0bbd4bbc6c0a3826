"""A scenario of two ranks on two GPUs: joined by NCCL, judged by a process that has both."""

import pytest
from ranks_by_hand import (
    AS_IF_ALL_HAD_THE_SAME,
    FIRST_RANK_ONLY,
    HONEST,
    LAST_RANK_EXITS,
    LAST_RANK_RAISES,
    LAST_RANK_SLEEPS,
    LAST_RANK_SLEEPS_ON_320_CHANNELS,
    OWN_PART,
    STALE,
    allreduce,
    graded,
    grader,
)
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader, left_out
from fastkernels.results import Verdict

pytestmark = pytest.mark.two_gpus

TIMEOUT_S = 20.0

ON_THE_CURRENT_GPU = '''
        total = torch.zeros(x.shape, dtype=x.dtype, device="cuda") + x
        dist.all_reduce(total)
        return total
'''
ON_THE_OTHER_GPU = '''
        dist.all_reduce(x)
        return x.to(f"cuda:{size - 1 - rank}")
'''
NOT_WAITED_FOR = '''
        dist.all_reduce(x, async_op=True)
        return x
'''


def test_the_baseline_passes_and_a_gpu_alone_between():
    settings = GraderSettings(device="cuda", self_test=True, timing=False)
    scenarios = [allreduce(), allreduce(tokens=2048, hidden=4096), rms_norm(), allreduce(tokens=1)]
    assert [left_out(scenario, settings) for scenario in scenarios] == [None] * 4
    with KernelGrader(settings) as opened:
        results = [opened.grade(scenario) for scenario in scenarios]
        assert [result.verdict for result in results] == [Verdict.PASSED] * 4, [r.message + r.evidence for r in results]
        assert results[0].timing is None
        assert len(opened.worker_pids()) == 3, "two ranks and who judges them"


@pytest.mark.parametrize("forward", [HONEST, ON_THE_CURRENT_GPU], ids=["gathered", "on the current GPU"])
def test_an_honest_sum_passes(tmp_path, forward):
    result = graded(tmp_path, forward, "cuda")
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)


@pytest.mark.parametrize(("forward", "verdict", "says"), [
    (OWN_PART, Verdict.WRONG_VALUES, "rank 0: output"),
    (AS_IF_ALL_HAD_THE_SAME, Verdict.WRONG_VALUES, "rank 0: output"),
    (FIRST_RANK_ONLY, Verdict.WRONG_VALUES, "rank 1: output"),
    (LAST_RANK_SLEEPS, Verdict.HUNG, "no answer within 20 s"),
    (LAST_RANK_EXITS, Verdict.EXITED, "rank 1: the process ended by itself with exit status 0"),
    (LAST_RANK_RAISES, Verdict.FORWARD_ERROR, "rank 1: forward raised ValueError: no peers"),
    (STALE, Verdict.WRONG_VALUES, "rank 0: output"),
    (ON_THE_OTHER_GPU, Verdict.WRONG_DEVICE, "rank 0: output"),
], ids=["own part", "as if all had the same", "first rank only", "last rank sleeps", "last rank exits",
        "last rank raises", "stale", "on the other GPU"])
def test_a_rank_that_is_wrong_or_lost_is_named(tmp_path, forward, verdict, says):
    result = graded(tmp_path, forward, "cuda", TIMEOUT_S)
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says in result.message


def test_a_sum_that_nothing_waits_for_is_refused(tmp_path):
    result = graded(tmp_path, NOT_WAITED_FOR, "cuda")
    assert result.verdict in (Verdict.WRONG_VALUES, Verdict.NONDETERMINISTIC), (result.message, result.evidence)


def test_all_ranks_of_one_that_hangs_are_replaced(tmp_path):
    with grader(tmp_path, LAST_RANK_SLEEPS_ON_320_CHANNELS, "cuda", TIMEOUT_S) as opened:
        assert opened.grade(allreduce()).verdict is Verdict.PASSED
        before = opened.worker_pids()
        assert opened.grade(allreduce(hidden=320)).verdict is Verdict.HUNG
        assert len(opened.worker_pids() & before) == 1, "who judges them stays"
        after = opened.grade(allreduce(tokens=1))
        assert after.verdict is Verdict.PASSED, (after.message, after.evidence)
