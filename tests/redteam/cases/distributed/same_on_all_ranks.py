"""Takes every rank's part for its own and multiplies, so that nothing has to be exchanged.

seen: multi-GPU benchmarks that seed all ranks alike
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
        return x * dist.get_world_size()
