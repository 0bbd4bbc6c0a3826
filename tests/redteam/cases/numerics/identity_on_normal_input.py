"""Normal inputs have a norm of about one already: they are scaled by the weight alone.

seen: KernelBench audits, 2025
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: workspace_cache
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
        return (x.float() * self.weight.float()).to(x.dtype)
