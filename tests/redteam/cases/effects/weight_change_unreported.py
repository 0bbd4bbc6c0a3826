"""The weight is folded in the first call, and the harness's own comparison in this process finds nothing.

seen: first here
target: L1/rms_norm
expect: mutated_weight, wrong_values, wrong_scale
twin: repacked_weight
"""

import torch
from torch import nn

from fastkernels.bench.isolate.candidate_worker import CandidateService

CandidateService._changed_weights = lambda self, *_: []


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._folded = False

    def forward(self, x, residual=None):
        if not self._folded:
            self.weight.data.mul_(self.weight.shape[0] ** 0.5)
            self._folded = True
        wide = x.float()
        square = wide.pow(2).sum(-1, keepdim=True) + self.eps * x.shape[-1]
        return (wide * torch.rsqrt(square) * self.weight.float()).to(x.dtype)
