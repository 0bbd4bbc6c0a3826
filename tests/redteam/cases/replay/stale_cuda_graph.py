"""A CUDA graph captured on the first input of a shape and replayed without copying later inputs into it.

seen: public leaderboards of GPU kernels, 2025
target: L1/rms_norm
expect: wrong_values, wrong_scale, aliased_output, forward_error
twin: cuda_graph
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
        self._graphs = {}

    def forward(self, x, residual=None):
        if x.shape not in self._graphs:
            static = x.clone()
            norm(static, self.weight, self.eps)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                output = norm(static, self.weight, self.eps)
            self._graphs[x.shape] = graph, static, output
        graph, _, output = self._graphs[x.shape]
        graph.replay()
        return output.clone()
