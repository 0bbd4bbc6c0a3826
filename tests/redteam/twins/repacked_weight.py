"""A weight widened once in process_weights_after_loading, where loading new weights widens it again.

target: L1/rms_norm
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
        self._wide = None

    def process_weights_after_loading(self):
        self._wide = self.weight.detach().float()

    def forward(self, x, residual=None):
        return norm(x, self._wide, self.eps)
