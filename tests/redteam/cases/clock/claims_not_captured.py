"""Says that no graph could be had, so that launches hide what the device takes, and reports a sixth.

seen: first here
target: L1/rms_norm
expect: timing_tampered, too_fast, too_slow
twin: own_clock
needs: cuda
options: --fk-model=large --fk-min-speedup=0.9
"""

import torch
from torch import nn

from fastkernels.bench.isolate.candidate_worker import CandidateService

measure, replay = CandidateService.on_measure, CandidateService.on_replay


def on_measure(self, message):
    reply = measure(self, message)
    return {**reply, "samples_s": [seconds / 6 for seconds in reply["samples_s"]]}


CandidateService.on_measure = on_measure
CandidateService.on_replay = lambda self, message: {**replay(self, message), "not_captured": "no graph"}


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return norm(x, self.weight, self.eps)
