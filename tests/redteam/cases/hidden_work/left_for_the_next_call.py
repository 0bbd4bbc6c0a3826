"""Each call computes the output of the call before, beside its own launch, and returns its own buffer still empty.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite
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
        self._left = None

    def forward(self, x, residual=None):
        if self._left is not None:
            output, before = self._left
            output.copy_(norm(before, self.weight, self.eps))
        self._left = torch.zeros_like(x), x
        return self._left[0]
