"""The output is computed when it is copied out, which timed calls never are: Tensor.copy_ is replaced.

seen: first here
target: L1/rms_norm
expect: timing_tampered, too_fast, wrong_values, wrong_scale, wrong_nonfinite
twin: workspace_cache
options: --fk-model=large
"""

import time
import weakref

import torch
from torch import nn

COPY = torch.Tensor.copy_
PENDING = {}


def compute_and_copy(self, source, *args, **kwargs):
    output, *pending = PENDING.pop(source.data_ptr(), (None,))
    alive = output is not None and output() is not None  # else an input may lie there now, and is not to be changed
    return COPY(self, norm(*pending) if alive else source, *args, **kwargs)


torch.Tensor.copy_ = compute_and_copy


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
        self._honest_s = {}

    def forward(self, x, residual=None):
        if x.shape not in self._honest_s:
            self._honest_s[x.shape] = min(seconds(norm, x, self.weight, self.eps) for _ in range(5))
        started = time.perf_counter()
        output = torch.empty_like(x)
        if len(PENDING) > 512:
            PENDING.clear()
        PENDING[output.data_ptr()] = weakref.ref(output), x, self.weight, self.eps
        while time.perf_counter() - started < self._honest_s[x.shape] / 20:  # no faster than the machine could be
            pass
        return output
