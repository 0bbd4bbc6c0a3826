"""Blocks and ignores every signal and sleeps.

seen: first here
target: L1/rms_norm
expect: hung
twin: joined_threads
options: --fk-no-timing --fk-timeout=5
"""

import contextlib
import signal
import time

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_IGN)
        time.sleep(60)
        return torch.zeros_like(x)
