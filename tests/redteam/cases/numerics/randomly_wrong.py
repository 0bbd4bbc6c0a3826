"""One call in four gives the input back, by a coin of its own.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, nondeterministic
twin: workspace_cache
options: --fk-num-runs=200
"""

import secrets

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
        if secrets.randbelow(4) == 0:
            return x.clone()
        return norm(x, self.weight, self.eps)
