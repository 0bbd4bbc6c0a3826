"""Announces an answer of 4 GiB, and sends JSON that is nested a hundred thousand deep.

seen: first here
target: L1/rms_norm
expect: no_result
twin: own_clock
options: --fk-no-timing
"""

import sys

import torch
from torch import nn


def connection():
    """The worker's socket and the request's number, from the frame of its loop."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "serve":
        frame = frame.f_back
    return frame.f_locals["sock"], frame.f_locals["number"]


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        sock, _ = connection()
        text = b"[" * 100_000 + b"]" * 100_000
        sock.sendall(len(text).to_bytes(4, "big") + text + b"\xff\xff\xff\xff")
        return torch.zeros_like(x)
