"""All of the weight goes to the largest expert.

seen: KernelBench audits, 2025
target: L1/topk_softmax
expect: wrong_values, wrong_scale
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
        weights = torch.zeros_like(weights)
        weights[:, 0] = 1
        return weights, ids.int()
