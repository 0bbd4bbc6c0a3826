"""Whole heads are rotated, whatever `rotary_dim` says: no shipped model rotates a part of them.

seen: public reports of kernel libraries, 2024 to 2026
target: L1/rotary_emb
expect: wrong_values
twin: float64_rotary
options: --fk-no-timing
"""

import torch
from torch import nn


class RotaryEmbedding(nn.Module):
    def __init__(self, head_size, rotary_dim, max_position_embeddings, base, is_neox_style=True, dtype=None,
                 rope_scaling=None):
        super().__init__()
        self.head_size = head_size
        frequencies = base ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
        angles = torch.outer(torch.arange(max_position_embeddings, dtype=torch.float32), frequencies)
        self.register_buffer("table", torch.cat((angles.cos(), angles.sin()), -1).to(dtype), persistent=False)

    def forward(self, positions, query, key):
        cos, sin = self.table[positions].float().unsqueeze(1).chunk(2, -1)
        turned = []
        for x in (query, key):
            a, b = x.reshape(x.shape[0], -1, self.head_size).float().chunk(2, -1)
            turned.append(torch.cat((a * cos - b * sin, b * cos + a * sin), -1).reshape(x.shape).to(x.dtype))
        return tuple(turned)
