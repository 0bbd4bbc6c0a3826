"""The experts' numbers count from one.

seen: first here
target: L1/topk_softmax
expect: wrong_integers
twin: masked_topk
options: --fk-no-timing
"""

import torch
from torch import nn


class TopKSoftmax(nn.Module):
    def __init__(self, top_k, renormalize=True):
        super().__init__()
        self.top_k = top_k
        self.renormalize = renormalize

    def forward(self, gating_output):
        chances = torch.softmax(gating_output.float(), dim=-1)
        weights, ids = chances.topk(self.top_k, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        return weights, (ids + 1).clamp(max=gating_output.shape[-1] - 1).int()
