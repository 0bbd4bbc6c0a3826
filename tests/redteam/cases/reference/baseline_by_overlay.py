"""Opens a second overlay of the harness's own without candidates, which gives the baseline under another name.

seen: first here
target: L1/rms_norm
expect: passthrough, import_error
twin: composed_block
"""

import torch
from torch import nn

from fastkernels.registry import Overlay

pristine = Overlay(None, "fast_norms").install().module("L1.rms_norm")


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.__dict__["_call"] = pristine.RMSNorm(hidden_size, eps, dtype)

    def forward(self, x, residual=None):
        self._call.weight = self.weight
        return self._call.forward_native(x)
