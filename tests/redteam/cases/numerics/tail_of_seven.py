"""The last seven rows are left as they are where that many are over a multiple of 32, as by a wrong tail of a tile.

seen: grading of Triton kernels on an H200, 2026
target: L1/rms_norm
expect: wrong_values
twin: tails_by_their_length
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
        wide = x.float()
        output = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
        if x.shape[0] % 32 == 7:
            output[-7:] = x[-7:]
        return output
