"""Reads clocks, its own stack and torch's thread count, as a kernel that tunes itself does, and changes none of them.

target: L1/rms_norm
"""

import sys
import time
from collections import deque

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
        self._seen = deque(maxlen=64)

    def forward(self, x, residual=None):
        started = time.perf_counter()
        output = norm(x, self.weight, self.eps)
        self._seen.append((time.perf_counter() - started, sys._getframe(1).f_code.co_name, torch.get_num_threads()))
        return output
