"""Recurses in C until the stack is gone.

seen: first here
target: L1/silu_and_mul
expect: crashed, forward_error
twin: inductor
options: --fk-no-timing
"""

import sys

import torch
from torch import nn


class Deep:
    def __repr__(self):
        return repr([self])


class SiluAndMul(nn.Module):
    def forward(self, x):
        sys.setrecursionlimit(10**9)
        repr(Deep())
        return torch.zeros_like(x.chunk(2, dim=-1)[0])
