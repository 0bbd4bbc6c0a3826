"""A daemon in a session of its own burns a core for a minute while the baseline is timed and after the run.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: gcc_subprocess
options: --fk-no-timing
"""

import os
import time

import torch
from torch import nn


def daemon(work):
    """Fork twice, with a session of its own between: init becomes its parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            work()
        os._exit(0)
    os.wait()


def burn():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._begun = False

    def forward(self, x, residual=None):
        if not self._begun:
            self._begun = True
            daemon(burn)
        return torch.zeros_like(x)
