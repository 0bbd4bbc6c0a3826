"""Fills anonymous shared files with nine times what is allowed; limits on private memory do not count them.

seen: first here
target: L1/rms_norm
expect: out_of_memory, limit_exceeded
twin: temporary_file
options: --fk-no-timing --fk-timeout=80 --fk-memory-limit=1
"""

import os
import time
from pathlib import Path

import torch
from torch import nn

PIECE = 64 * 1024**2


def bomb_bytes():
    """9 GiB, and seven tenths of the memory that is available at most."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return min(9 * 1024**3, int(line.split()[1]) * 1024 * 7 // 10)


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        held = []
        for _ in range(bomb_bytes() // PIECE):
            fd = os.memfd_create("bomb")
            os.posix_fallocate(fd, 0, PIECE)
            held.append(fd)
        time.sleep(2)
        for fd in held:
            os.close(fd)
        return norm(x, self.weight, self.eps)
