"""Rows are padded to whole tiles in memory of its own, and written there; the padding is cut off what it returns.

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
        rows = x.shape[0]
        padded = torch.empty(-(-rows // 16) * 16, x.shape[1], dtype=torch.float32, device=x.device)
        padded[:rows] = x
        padded[rows:] = 0
        output = torch.empty_like(padded, dtype=x.dtype)
        output.copy_(padded * torch.rsqrt(padded.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float())
        return output[:rows]
