"""Right twice, then a write to address 0 ends the process.

seen: first here
target: L1/rms_norm
expect: crashed
twin: try_import
options: --fk-no-timing
"""

import ctypes

import torch
from torch import nn


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._calls = 0

    def forward(self, x, residual=None):
        self._calls += 1
        if self._calls > 2:
            ctypes.memset(0, 0, 8)
        return norm(x, self.weight, self.eps)
