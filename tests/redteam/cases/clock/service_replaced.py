"""The request for samples is answered by a method of the candidate's own, which makes no call at all.

seen: first here
target: L1/rms_norm
expect: timing_tampered, too_fast
twin: own_clock
needs: cpu
options: --fk-model=large
"""

import time

import torch
from torch import nn

from fastkernels.bench.isolate.candidate_worker import CandidateService

TOOK_S = {}


def on_measure(self, message):
    x = self.sets[0]["x"]
    return {"samples_s": [TOOK_S[x.shape] / 6] * message["calls"], "ran_s": 0.0}


CandidateService.on_measure = on_measure


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        if x.shape not in TOOK_S:
            TOOK_S[x.shape] = min(self._took_s(x) for _ in range(5))
        return norm(x, self.weight, self.eps)

    def _took_s(self, x):
        started = time.perf_counter()
        norm(x, self.weight, self.eps)
        return time.perf_counter() - started
