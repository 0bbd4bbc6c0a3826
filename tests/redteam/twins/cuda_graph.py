"""A CUDA graph by shape, with every input copied into its static memory before it is replayed.

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
        self._graphs = {}

    def forward(self, x, residual=None):
        if torch.cuda.is_current_stream_capturing():
            return norm(x, self.weight, self.eps)
        key = x.shape, self.weight.data_ptr()
        if key not in self._graphs:
            static = x.clone()
            norm(static, self.weight, self.eps)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                output = norm(static, self.weight, self.eps)
            self._graphs[key] = graph, static, output
        graph, static, output = self._graphs[key]
        static.copy_(x)
        graph.replay()
        return output.clone()
