"""An all-reduce of its own: all parts gathered through torch.distributed and summed in float32.

target: L1/allreduce
needs: ranks
options: --fk-model=ranks
"""

import torch
import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def forward(self, x):
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack([part.float() for part in parts]).sum(0).to(x.dtype)
