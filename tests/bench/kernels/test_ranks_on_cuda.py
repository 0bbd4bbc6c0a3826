"""A scenario of two ranks on two GPUs: joined by NCCL, judged by a process that has both."""

import pytest
from ranks_by_hand import HONEST, WRONG_OR_LOST, allreduce, check_named, check_replaced, graded
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
    *WRONG_OR_LOST, pytest.param(ON_THE_OTHER_GPU, Verdict.WRONG_DEVICE, "rank 0: output", id="on the other GPU")])
def test_a_rank_that_is_wrong_or_lost_is_named(tmp_path, forward, verdict, says):
    check_named(tmp_path, forward, verdict, says, "cuda", TIMEOUT_S)


def test_a_sum_that_nothing_waits_for_is_refused(tmp_path):
    result = graded(tmp_path, NOT_WAITED_FOR, "cuda")
    assert result.verdict in (Verdict.WRONG_VALUES, Verdict.NONDETERMINISTIC), (result.message, result.evidence)


def test_all_ranks_of_one_that_hangs_are_replaced(tmp_path):
    check_replaced(tmp_path, "cuda", TIMEOUT_S)
