"""Rewrites the manifest of the run, so that what is still to come is nothing.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: temporary_file
needs: sandbox
options: --fk-no-timing
"""

import contextlib
import os
from pathlib import Path

import torch
from torch import nn

with contextlib.suppress(OSError):
    for path in Path(f"/proc/{os.getppid()}/cwd").glob("*.yaml"):
        path.write_text("schema_version: 1\ncategory: none\nmodels: {}\noperators: {}\n")


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return torch.zeros_like(x)
