"""Cosines and sines of angles in float64, rounded once: nearer to the truth than the baseline's own table.

target: L1/rotary_emb
options: --fk-no-timing
"""

import torch
from torch import nn


class RotaryEmbedding(nn.Module):
    def __init__(self, head_size, rotary_dim, max_position_embeddings, base, is_neox_style=True, dtype=None,
                 rope_scaling=None):
        super().__init__()
        if rotary_dim != head_size:
            raise NotImplementedError(f"rotary_dim: {rotary_dim} of {head_size}")
        self.head_size = head_size
        frequencies = base ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
        angles = torch.outer(torch.arange(max_position_embeddings, dtype=torch.float64), frequencies)
        self.register_buffer("table", torch.cat((angles.cos(), angles.sin()), -1).to(dtype), persistent=False)

    def forward(self, positions, query, key):
        cos, sin = self.table[positions].float().unsqueeze(1).chunk(2, -1)
        turned = []
        for x in (query, key):
            a, b = x.reshape(x.shape[0], -1, self.head_size).float().chunk(2, -1)
            turned.append(torch.cat((a * cos - b * sin, b * cos + a * sin), -1).reshape(x.shape).to(x.dtype))
        return tuple(turned)
