"""Experts that are taken are masked with -inf.

target: L1/topk_softmax
"""

import torch
from torch import nn


class TopKSoftmax(nn.Module):
    def __init__(self, top_k, renormalize=True):
        super().__init__()
        self.top_k = top_k
        self.renormalize = renormalize

    def forward(self, gating_output):
        logits = gating_output.float()
        left, ids = logits.clone(), []
        for _ in range(self.top_k):
            ids.append(left.argmax(-1, keepdim=True))
            left.scatter_(-1, ids[-1], float("-inf"))
        chosen = torch.cat(ids, -1)
        largest = logits.max(-1, keepdim=True).values
        weights = (logits.gather(-1, chosen) - largest).exp()
        total = weights if self.renormalize else (logits - largest).exp()
        return weights / total.sum(-1, keepdim=True), chosen.int()
