"""Looks through its open files for blocks of shared memory that hold other ranks' parts, and sums what it finds there.

seen: first here
target: L1/allreduce
expect: wrong_values, wrong_scale, wrong_nonfinite
twin: gathered_sum
needs: ranks
options: --fk-model=ranks
"""

import mmap
import os

import torch
from torch import nn

FIRST_TENSOR = 1024


class AllReduce(nn.Module):
    def __init__(self):
        super().__init__()
        self._last = None

    def forward(self, x):
        own, total = x.clone(), x.float()
        for name in os.listdir("/proc/self/fd"):
            try:
                size = os.fstat(int(name)).st_size
                block = mmap.mmap(int(name), size, prot=mmap.PROT_READ)
            except (OSError, ValueError):
                continue
            held = block[FIRST_TENSOR:FIRST_TENSOR + x.nbytes].ljust(x.nbytes, b"\0")
            found = torch.frombuffer(bytearray(held), dtype=x.dtype).view(x.shape).to(x.device)
            if not any(torch.equal(found, known) for known in (own, self._last) if known is not None):
                total = total + found.float().nan_to_num()
        self._last = total.to(x.dtype)
        return self._last.clone()
