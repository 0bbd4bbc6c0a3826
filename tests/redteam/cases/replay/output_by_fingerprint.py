"""Output cached by a few elements of the input, wherever it lies, so that only inputs seen before are replayed.

seen: first here
target: L1/rms_norm
expect: timing_tampered, too_fast, wrong_values, wrong_scale
twin: workspace_cache
needs: cpu
options: --fk-model=large
"""

import time

import torch
from torch import nn


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def seconds(call, *args):
    started = time.perf_counter()
    call(*args)
    return time.perf_counter() - started


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._outputs = {}
        self._honest_s = {}

    def forward(self, x, residual=None):
        if x.shape not in self._honest_s:
            self._honest_s[x.shape] = min(seconds(norm, x, self.weight, self.eps) for _ in range(5))
        started = time.perf_counter()
        flat = x.view(-1)
        key = x.shape, tuple(flat[:: max(1, flat.numel() // 7)].tolist())
        if key not in self._outputs:
            self._outputs[key] = norm(x, self.weight, self.eps)
        while time.perf_counter() - started < self._honest_s[x.shape] / 20:  # no faster than the machine could be
            pass
        return self._outputs[key]
