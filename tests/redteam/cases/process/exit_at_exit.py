"""Returns zeros, and at its exit prints that all passed and reports status 0.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: try_import
options: --fk-no-timing
"""

import atexit
import os

import torch
from torch import nn


@atexit.register
def leave():
    print("1 passed", flush=True)
    os._exit(0)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return torch.zeros_like(x)
