"""The weight is widened in the first call and kept: work that later calls lack, and stale once weights are reloaded.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: repacked_weight
"""

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
        self._wide = None

    def forward(self, x, residual=None):
        if self._wide is None:
            self._wide = self.weight.detach().float()
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self._wide).to(x.dtype)
