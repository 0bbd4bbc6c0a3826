"""Writes files of 256 MiB into the temporary directory, 5 GiB at most, and keeps them for the run.

seen: first here
target: L1/rms_norm
expect: forward_error, crashed, wrong_values, wrong_scale, limit_exceeded
twin: temporary_file
options: --fk-no-timing
"""

import os
import tempfile
import time

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._held = []

    def forward(self, x, residual=None):
        for number in range(20):
            with open(os.path.join(tempfile.gettempdir(), f"bomb-{os.getpid()}-{number}"), "wb") as file:
                os.unlink(file.name)
                os.posix_fallocate(file.fileno(), 0, 256 * 1024**2)
                self._held.append(os.dup(file.fileno()))
        time.sleep(2)
        return torch.zeros_like(x)
