"""Environment variables of the harness and of Python are set in its process.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: try_import
options: --fk-no-timing
"""

import os

import torch
from torch import nn

os.environ.update({"PYTHONPATH": "/nowhere", "FASTKERNELS_DEVICE": "meta", "FASTKERNELS_CACHE_DIR": "/nowhere",
                   "PYTEST_ADDOPTS": "--fk-list", "CUBLAS_WORKSPACE_CONFIG": ""})


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return torch.zeros_like(x)
