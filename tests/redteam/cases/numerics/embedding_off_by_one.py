"""Each token takes the next one's row.

seen: first here
target: L1/embedding
expect: wrong_values, wrong_scale
twin: try_import
options: --fk-no-timing
"""

import torch
from torch import nn


class Embedding(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim, dtype=dtype))

    def forward(self, input_ids):
        return self.weight[(input_ids + 1) % self.weight.shape[0]]
