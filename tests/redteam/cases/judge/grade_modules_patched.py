"""The judge's own functions are replaced wherever they are found loaded.

seen: KernelBench audits, 2025
target: L1/rms_norm
expect: wrong_values, wrong_scale, passthrough, import_error
twin: try_import
options: --fk-no-timing
"""

import sys

import torch
from torch import nn


def nothing_wrong(*args, **kwargs):
    return None


for name, module in list(sys.modules.items()):
    if name.startswith("fastkernels.bench.grade"):
        for attribute in ("judge_leaves", "difference", "forbidden", "gather", "scale_ratio"):
            if hasattr(module, attribute):
                setattr(module, attribute, nothing_wrong)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return torch.zeros_like(x)
