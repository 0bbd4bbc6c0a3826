"""Outputs of the inputs that small seeds give, computed in __init__ and looked up by a few elements.

seen: Sakana AI CUDA Engineer audit, 2025 (inputs of a fixed seed)
target: L1/rms_norm
expect: wrong_values, wrong_scale
twin: workspace_cache
options: --fk-no-timing --fk-seed=1
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
        self._inputs = {}
        self._remember((8, hidden_size))

    def forward(self, x, residual=None):
        found = self._inputs.get((x.shape, float(x.view(-1)[0])))
        return torch.zeros_like(x) if found is None else norm(found, self.weight, self.eps)

    def _remember(self, shape):
        for seed in range(64):
            drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu").to(self.weight)
            self._inputs[drawn.shape, float(drawn.view(-1)[0])] = drawn
