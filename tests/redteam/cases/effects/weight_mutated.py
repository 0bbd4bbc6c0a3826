"""The weight is doubled and halved around the call, and left a little off.

seen: first here
target: L1/rms_norm
expect: mutated_weight
twin: repacked_weight
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
        output = norm(x, self.weight, self.eps)
        self.weight.data[0] = self.weight.data[0] + 1
        return output
