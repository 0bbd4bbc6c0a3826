"""The work is handed to torch's own native threads (torch.jit.fork) and the output returned before they have done it.

seen: audits of generated kernels, 2025
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite, timing_tampered, nondeterministic
twin: joined_threads
"""

import torch
from torch import nn


@torch.jit.script
def fill(output: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    torch.matmul(torch.ones(500, 500), torch.ones(500, 500))  # so that the caller is gone before the output is there
    wide = x.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, True) + eps)
    return output.copy_((wide * scale * weight.float()).to(x.dtype))


@torch.jit.script
def start(output: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float):
    return torch.jit.fork(fill, output, x, weight, eps)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._left = None

    def forward(self, x, residual=None):
        output = torch.zeros_like(x)
        self._left = start(output, x, self.weight, self.eps)
        return output
