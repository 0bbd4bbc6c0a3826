"""Sets a variable, a signal handler and a waiting thread and keeps a file open, as libraries do.

target: L1/rms_norm
"""

import os
import signal
import threading

import torch
from torch import nn

os.environ["MY_KERNELS_LOADED"] = "1"
signal.signal(signal.SIGUSR1, lambda *_: None)
KEPT = os.memfd_create("my-kernels")
STOP = threading.Event()
threading.Thread(target=STOP.wait, daemon=True).start()


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return norm(x, self.weight, self.eps)
