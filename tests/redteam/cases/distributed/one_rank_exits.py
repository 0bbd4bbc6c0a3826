"""The last rank ends with status 0 once it has seen a call, and the first catches the error and returns its own part.

seen: first here
target: L1/allreduce
expect: exited, wrong_values, wrong_scale
twin: gathered_sum
needs: ranks
options: --fk-model=ranks
"""

import contextlib
import os

import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def forward(self, x):
        if dist.get_rank() == dist.get_world_size() - 1:
            os._exit(0)
        with contextlib.suppress(RuntimeError):
            dist.all_reduce(x)
        return x
