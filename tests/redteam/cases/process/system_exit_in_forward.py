"""Raises SystemExit with status 0 in forward, which `except Exception` lets through.

seen: first here
target: L1/rms_norm
expect: exited, forward_error
twin: try_import
options: --fk-no-timing
"""

import sys

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        sys.exit(0)
