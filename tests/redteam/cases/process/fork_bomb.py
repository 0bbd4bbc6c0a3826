"""Forks up to 400 processes that sleep for twenty seconds, and returns zeros.

seen: first here
target: L1/rms_norm
expect: forward_error, wrong_values, wrong_scale, limit_exceeded
twin: gcc_subprocess
options: --fk-no-timing
"""

import os
import time

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        for _ in range(400):
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
        return torch.zeros_like(x)
