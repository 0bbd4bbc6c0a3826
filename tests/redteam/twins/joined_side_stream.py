"""Half of the rows on a side stream that waits for the current one, and is waited for.

target: L1/rms_norm
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
        half = x.shape[0] // 2
        if half == 0:
            return norm(x, self.weight, self.eps)
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        output, current = torch.empty_like(x), torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            output[:half] = norm(x[:half], self.weight, self.eps)
        output[half:] = norm(x[half:], self.weight, self.eps)
        current.wait_stream(self._stream)
        return output
