"""A joined side stream that does not wait for its inputs: a call may read what the kernel before has not written yet.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite, nondeterministic, timing_tampered, too_fast
twin: joined_side_stream
needs: cuda
"""

import torch
from torch import nn


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._stream = None

    def forward(self, x, residual=None):
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        with torch.cuda.stream(self._stream):
            output = norm(x, self.weight, self.eps)
        torch.cuda.current_stream().wait_stream(self._stream)
        return output
