"""A weight of over 64 MiB is copied in the first call and kept outside the state dict; stale once it is reloaded.

seen: first here
target: L1/linear
expect: wrong_values, wrong_scale
twin: repacked_linear
options: --fk-model=heavy --fk-no-timing
"""

import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, input_size, output_size, bias=False, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(output_size, input_size, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(output_size, dtype=dtype)) if bias else None
        self._packed = None

    def forward(self, x):
        if self._packed is None:
            self._packed = self.weight.detach().clone()
        return nn.functional.linear(x, self._packed, self.bias)
