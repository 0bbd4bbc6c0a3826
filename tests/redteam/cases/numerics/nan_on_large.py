"""Squares in half precision: large inputs overflow to infinity and give zeros.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite
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
        half = x.to(torch.float16)
        scale = torch.rsqrt(half.float().pow(2).to(torch.float16).float().mean(-1, keepdim=True) + self.eps)
        return (half.float() * scale * self.weight.float()).to(x.dtype)
