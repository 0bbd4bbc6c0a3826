"""One output buffer by shape, written by every call, so that a result is gone at the next one.

seen: audits of generated kernels, 2025
target: L1/rms_norm
expect: aliased_output
twin: workspace_cache
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
        self._held = {}

    def forward(self, x, residual=None):
        if x.shape not in self._held:
            self._held[x.shape] = torch.empty_like(x)
        return self._held[x.shape].copy_(norm(x, self.weight, self.eps))
