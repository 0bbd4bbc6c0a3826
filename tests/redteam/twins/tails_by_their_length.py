"""Rows in tiles of 32, the tail in a way of its own: seven rows over are computed as such.

target: L1/rms_norm
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
        whole = x.shape[0] // 32 * 32
        parts = [self._norm(x[:whole].double()), self._norm(x[whole:].float())]
        return torch.cat([part.to(x.dtype) for part in parts])

    def _norm(self, wide):
        return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.to(wide.dtype)
