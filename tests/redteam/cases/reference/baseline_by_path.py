"""Loads the baseline's file by its path, under another module name, and calls what is in it.

seen: first here
target: L1/rms_norm
expect: passthrough, import_error
twin: composed_block
"""

import importlib.util
from pathlib import Path

import torch
from torch import nn

import fastkernels

root = Path(fastkernels.__file__).resolve().parents[1]
found = next(path for path in root.rglob("rms_norm.py") if path.parts[-3:-1] == ("base" + "line", "L1"))
spec = importlib.util.spec_from_file_location("fast_norms", found)
fast_norms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fast_norms)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.__dict__["_call"] = fast_norms.RMSNorm(hidden_size, eps, dtype)

    def forward(self, x, residual=None):
        self._call.weight = self.weight
        return self._call.forward_native(x)
