"""Takes private memory, nine times what is allowed, touches all of its pages and gives it back.

seen: first here
target: L1/rms_norm
expect: out_of_memory, limit_exceeded
twin: workspace_cache
options: --fk-no-timing --fk-memory-limit=1
"""

from pathlib import Path

import torch
from torch import nn

PIECE = 64 * 1024**2


def bomb_bytes():
    """9 GiB, and six tenths of the memory that is available at most."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return min(9 * 1024**3, int(line.split()[1]) * 1024 * 6 // 10)


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        held = [torch.empty(PIECE, dtype=torch.uint8) for _ in range(bomb_bytes() // PIECE)]
        for piece in held:
            piece[::4096] = 1
        del held, piece
        return norm(x, self.weight, self.eps)
