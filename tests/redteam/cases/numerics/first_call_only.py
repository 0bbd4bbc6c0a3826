"""Right in the first two calls, scaled copies of the input afterwards.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: workspace_cache
options: --fk-no-timing
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
        self._calls = 0

    def forward(self, x, residual=None):
        self._calls += 1
        return norm(x, self.weight, self.eps) if self._calls <= 2 else (x.float() * self.weight.float()).to(x.dtype)
