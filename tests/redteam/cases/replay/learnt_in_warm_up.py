"""The rows' scales are learnt from the first call of a shape and used in all later ones, which need no sum then.

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
        self._scales = {}

    def forward(self, x, residual=None):
        if x.shape not in self._scales:
            self._scales[x.shape] = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (x.float() * self._scales[x.shape] * self.weight.float()).to(x.dtype)
