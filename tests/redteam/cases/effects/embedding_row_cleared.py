"""Rows of the table are cleared once they have been read, since each is listed once.

seen: first here
target: L1/embedding
expect: mutated_weight, wrong_values, wrong_scale
twin: repacked_weight
options: --fk-no-timing
"""

import torch
from torch import nn


class Embedding(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim, dtype=dtype))

    def forward(self, input_ids):
        rows = self.weight[input_ids]
        self.weight.data[input_ids] = 0
        return rows
