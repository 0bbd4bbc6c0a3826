"""Calls in quick succession are left for later and never made; only a call after a pause is computed.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite, timing_tampered, too_fast
twin: workspace_cache
"""

import time

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
        self._before = 0.0

    def forward(self, x, residual=None):
        now = time.perf_counter()
        paused, self._before = now - self._before > 5e-4, now
        if not paused:
            return self._blank(x)
        output = norm(x, self.weight, self.eps)
        self._before = time.perf_counter()
        return output

    def _blank(self, x):
        return torch.empty_like(x)
