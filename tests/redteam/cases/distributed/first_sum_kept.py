"""Exchanges once for each shape and returns that sum ever after.

seen: first here
target: L1/allreduce
expect: wrong_values, wrong_scale
twin: gathered_sum
needs: ranks
options: --fk-model=ranks
"""

import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def __init__(self):
        super().__init__()
        self._sums = {}

    def forward(self, x):
        if x.shape not in self._sums:
            dist.all_reduce(x)
            self._sums[x.shape] = x.clone()
        return self._sums[x.shape].clone()
