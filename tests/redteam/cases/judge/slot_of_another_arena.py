"""The answer says that the output lies where the input does, with the offset of the inputs' memory.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, no_result
twin: workspace_cache
options: --fk-no-timing
"""

import torch
from torch import nn

from fastkernels.bench.isolate.candidate_worker import CandidateService


def place(self):
    """Descriptions of the inputs in place of the outputs'."""
    self.outputs = self.inputs
    return [{"name": "0", "offset": 1024, "shape": list(self._leaves[0].shape),
             "stride": list(self._leaves[0].stride()), "dtype": "bfloat16"}]


CandidateService._place = place


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return x.clone()
