"""A workspace that is kept by shape between calls and written anew in each.

target: L1/rms_norm
"""

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._squares = {}

    def forward(self, x, residual=None):
        wide = x.float() if residual is None else x.float() + residual.float()
        squares = self._squares.get(wide.shape)
        if squares is None or squares.device != wide.device:
            squares = self._squares[wide.shape] = torch.empty_like(wide)
        torch.mul(wide, wide, out=squares)
        normed = (wide * torch.rsqrt(squares.mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
        return normed if residual is None else (normed, wide.to(x.dtype))
