"""The baseline's class made to sleep, and torch's threads and backends changed; the kernel does its work three times.

seen: KernelBench audits, 2025
target: L1/rms_norm
expect: too_slow, passthrough
twin: own_clock
options: --fk-model=large --fk-min-speedup=0.9
"""

import importlib
import os
import time

import torch
from torch import nn

baseline = importlib.import_module("fastkernels.tasks.baseline.L1.rms_norm")
forward_native = baseline.RMSNorm.forward_native
baseline.RMSNorm.forward_native = lambda self, *args: (time.sleep(0.01), forward_native(self, *args))[1]
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
torch.backends.mkldnn.enabled = False


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        for _ in range(3):
            output = norm(x, self.weight, self.eps)
        return output
