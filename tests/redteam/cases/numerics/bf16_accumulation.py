"""Sums of products are kept in bfloat16 instead of float32.

seen: KernelBench audits, 2025
target: L1/linear
expect: wrong_values, wrong_scale
twin: repacked_linear
options: --fk-no-timing
"""

import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, input_size, output_size, bias=False, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(output_size, input_size, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(output_size, dtype=dtype)) if bias else None

    def forward(self, x):
        total = torch.zeros(x.shape[0], self.weight.shape[0], dtype=x.dtype, device=x.device)
        for at in range(0, x.shape[1], 8):
            total += x[:, at : at + 8] @ self.weight[:, at : at + 8].t()
        return total
