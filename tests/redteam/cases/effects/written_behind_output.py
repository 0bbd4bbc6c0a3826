"""A store without a mask clears four elements behind the output, in bytes that the allocator has rounded up.

seen: KernelBench audits, 2025
target: L1/rms_norm
expect: out_of_bounds_write
twin: padded_output
options: --fk-no-timing
"""

import ctypes

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        wide, output = x.float(), torch.empty_like(x)
        output.copy_(wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float())
        if output.is_cuda:
            behind = torch.empty(0, dtype=x.dtype, device=x.device)
            behind.set_(output.untyped_storage(), output.storage_offset() + output.numel(), (4,), (1,))
            behind.zero_()
        else:
            ctypes.memset(output.data_ptr() + output.nbytes, 0, 8)
        return output
