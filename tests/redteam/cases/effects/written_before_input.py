"""A store with a negative index clears eight elements before the input.

seen: first here
target: L1/rms_norm
expect: out_of_bounds_write
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

    def forward(self, x, residual=None):
        beside = x.as_strided((x.numel() + 8,), (1,), storage_offset=x.storage_offset() - 8)
        beside[:8] = 0
        return norm(x, self.weight, self.eps)
