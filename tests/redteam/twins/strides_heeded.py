"""Heads are read by their strides, wherever the slice that they are lies.

target: L1/rms_norm
options: --fk-model=slices --fk-no-timing
"""

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        heads = torch.as_strided(x, x.shape, x.stride(), x.storage_offset()).float()
        normed = heads * torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return normed.to(x.dtype)
