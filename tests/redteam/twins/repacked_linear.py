"""A weight transposed and widened in process_weights_after_loading, and again whenever new weights are loaded.

target: L1/linear
"""

import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, input_size, output_size, bias=False, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(output_size, input_size, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(output_size, dtype=dtype)) if bias else None
        self._packed = None

    def process_weights_after_loading(self):
        self._packed = self.weight.detach().float().t().contiguous()

    def forward(self, x):
        y = x.float() @ self._packed
        return (y if self.bias is None else y + self.bias.float()).to(x.dtype)
