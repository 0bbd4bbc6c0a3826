"""The bias is left out, as if it were the zeros that it is initialised with.

seen: KernelBench audits, 2025
target: L1/linear
expect: wrong_values, wrong_scale
twin: repacked_linear
options: --fk-model=residual --fk-no-timing
"""

import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, input_size, output_size, bias=False, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(output_size, input_size, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(output_size, dtype=dtype)) if bias else None

    def forward(self, x):
        return nn.functional.linear(x, self.weight)
