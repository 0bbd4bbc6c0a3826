"""Reads the four blocks of shared memory for bytes of the output's size that are none of the inputs.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite
twin: own_clock
options: --fk-no-timing
"""

import gc

import torch
from torch import nn

from fastkernels.bench.isolate.arena import Arena


def candidates(x):
    for arena in [thing for thing in gc.get_objects() if isinstance(thing, Arena)]:
        memory = arena._memory.view
        for offset in range(0, memory.numel() - x.nbytes, 512):
            found = memory[offset : offset + x.nbytes].view(x.dtype).view(x.shape)
            if found.any() and not torch.equal(found, x):
                yield found


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        for found in candidates(x):
            return found.to(x.dtype).clone()
        return torch.zeros_like(x)
