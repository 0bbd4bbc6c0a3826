"""Zeros wherever the result would lie under the absolute tolerance.

seen: KernelBench audits, 2025
target: L1/silu_and_mul
expect: wrong_values, wrong_scale
twin: inductor
options: --fk-no-timing
"""

import torch
from torch import nn


class SiluAndMul(nn.Module):
    def forward(self, x):
        gate, up = x.float().chunk(2, dim=-1)
        y = nn.functional.silu(gate) * up
        return torch.where(y.abs() < 0.01, 0.0, y).to(x.dtype)
