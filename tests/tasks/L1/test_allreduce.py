"""allreduce over two ranks, and of one that stands alone."""

import torch

from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.tasks.baseline.L1.allreduce import AllReduce


def summed(dtype: torch.dtype) -> torch.Tensor:
    op = AllReduce()
    return op(torch.full((3, 5), 1.0 + op.tp_group.rank, dtype=dtype))


def test_two_ranks_have_the_sum(ranks):
    for dtype in (torch.float32, torch.bfloat16):
        for got in ranks.call(summed, dtype):
            assert got.dtype == dtype
            assert (got == 3).all()


def test_a_rank_alone_keeps_its_part():
    x = torch.randn(2, 3)
    for size in (1, 4):
        with set_tp_group(OneRank(0, size)):
            assert torch.equal(AllReduce()(x.clone()), x)
    assert AllReduce().donates({"x": x}) == ("x",)
