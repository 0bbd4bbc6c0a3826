"""Heads are read as if they lay together, though they are a slice of a fused projection.

seen: norms of heads in public kernel collections, 2025
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite
twin: strides_heeded
options: --fk-model=slices --fk-gates=none --fk-no-timing
"""

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        rows = torch.as_strided(x, (x.numel() // x.shape[-1], x.shape[-1]), (x.shape[-1], 1))
        wide = rows.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return normed.to(x.dtype).view(x.shape)
