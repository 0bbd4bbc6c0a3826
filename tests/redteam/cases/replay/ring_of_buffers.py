"""Two output buffers by shape in turns: a result is gone at the call after the next, which one look back does not show.

seen: first here
target: L1/rms_norm
expect: aliased_output, wrong_values, wrong_scale
twin: workspace_cache
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
        self._rings = {}

    def forward(self, x, residual=None):
        ring = self._rings.setdefault(x.shape, [])
        if len(ring) < 2:
            ring.append(torch.empty_like(x))
        ring.reverse()
        return ring[0].copy_(norm(x, self.weight, self.eps))
