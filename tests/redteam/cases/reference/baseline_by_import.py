"""Imports the baseline's class under a name put together at run time, and calls it.

seen: KernelBench audits, 2025 (calls of the reference model)
target: L1/rms_norm
expect: passthrough, import_error
twin: composed_block
"""

import importlib

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
        self.__dict__["_baseline"] = None

    def forward(self, x, residual=None):
        if self._baseline is None:
            module = importlib.import_module(".".join(("fastkernels", "tasks", "base" + "line", "L1", "rms_norm")))
            self._baseline = module.RMSNorm(self.weight.numel(), self.eps, self.weight.dtype).eval()
            self._baseline.weight = self.weight
        return self._baseline.forward_native(x)
