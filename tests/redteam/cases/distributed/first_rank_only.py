"""The sum is computed on rank 0 alone, whose output is the one that graders look at; the others keep their part.

seen: multi-GPU benchmarks that compare on rank 0
target: L1/allreduce
expect: wrong_values, wrong_scale
twin: gathered_sum
needs: ranks
options: --fk-model=ranks
"""

import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def forward(self, x):
        own = x.clone()
        dist.reduce(x, 0)
        return x if dist.get_rank() == 0 else own
