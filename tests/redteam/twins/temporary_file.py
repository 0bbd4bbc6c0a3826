"""Keeps what it has tuned in a file of the temporary directory and reads it again.

target: L1/rms_norm
"""

import json
import tempfile

import torch
from torch import nn


def tuned():
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
        json.dump({"rows": 4}, file)
        file.flush()
        file.seek(0)
        return json.load(file)["rows"]


ROWS = tuned()


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return torch.cat([self.norm(part) for part in x.split(ROWS)])

    def norm(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight.float()).to(x.dtype)
