"""The weight is transposed and widened in the first call and kept outside the state dict; stale once it is reloaded.

seen: first here
target: L1/linear
expect: wrong_values, wrong_scale
twin: repacked_linear
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
            self._packed = self.weight.detach().float().t().contiguous()
        y = x.float() @ self._packed
        return (y if self.bias is None else y + self.bias.float()).to(x.dtype)
