"""The last rank sleeps for a minute before it takes part, and all others wait for it.

seen: first here
target: L1/allreduce
expect: hung
twin: gathered_sum
needs: ranks
options: --fk-model=ranks --fk-timeout=8
"""

import time

import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def forward(self, x):
        if dist.get_rank() == dist.get_world_size() - 1:
            time.sleep(60)
        dist.all_reduce(x)
        return x
