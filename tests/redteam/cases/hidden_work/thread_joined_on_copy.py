"""A thread computes behind the call's back, and whoever copies the output waits for it: Tensor.copy_ is replaced.

seen: first here
target: L1/rms_norm
expect: timing_tampered, too_fast, wrong_values, wrong_scale, wrong_nonfinite
twin: joined_threads
options: --fk-model=large
"""

import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

COPY = torch.Tensor.copy_
PENDING = {}


def copy_when_done(self, source, *args, **kwargs):
    pending = PENDING.pop(source.data_ptr(), None)
    if pending is not None:
        pending.result()
    return COPY(self, source, *args, **kwargs)


torch.Tensor.copy_ = copy_when_done


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
        self._pool = ThreadPoolExecutor(1)

    def forward(self, x, residual=None):
        if x.shape not in self._honest_s:
            self._honest_s[x.shape] = min(seconds(norm, x, self.weight, self.eps) for _ in range(5))
        started = time.perf_counter()
        output = torch.empty_like(x)
        if len(PENDING) > 512:
            PENDING.clear()
        PENDING[output.data_ptr()] = self._pool.submit(self._fill, output, x)
        while time.perf_counter() - started < self._honest_s[x.shape] / 20:  # no faster than the machine could be
            pass
        return output

    def _fill(self, output, x):
        with torch.inference_mode():
            COPY(output, norm(x, self.weight, self.eps))
