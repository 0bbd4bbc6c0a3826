"""The sum over all tokens is added and taken off again, so that a row of NaN harms every other.

seen: public reports of serving engines, 2024 to 2026
target: L1/rms_norm
expect: wrong_nonfinite
twin: workspace_cache
options: --fk-no-timing
"""

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        wide = x.float() + 0.0 * x.float().sum(0)
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
