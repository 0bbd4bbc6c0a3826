"""An object that is freed after the first call ends the process with status 0.

seen: first here
target: L1/rms_norm
expect: exited, wrong_values, wrong_scale
twin: try_import
options: --fk-no-timing
"""

import os

import torch
from torch import nn


class Bomb:
    def __del__(self):
        os._exit(0)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._last = None

    def forward(self, x, residual=None):
        self._last = None
        self._last = Bomb()
        return torch.zeros_like(x)
