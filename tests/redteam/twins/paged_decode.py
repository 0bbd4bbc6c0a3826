"""Attention of one token a sequence, sequence by sequence over the pages of each.

target: L1/flash_attn_decode
"""

import torch
from torch import nn


class FlashAttnDecode(nn.Module):
    def __init__(self, num_heads, head_size, scale, num_kv_heads, sliding_window=None):
        super().__init__()
        self.scale = scale

    def forward(self, query, key_cache, value_cache, block_table, seqused_k, max_seqlen_k, sinks=None):
        output = torch.zeros_like(query)
        groups = query.shape[1] // key_cache.shape[2]
        lengths = seqused_k.tolist()
        for row, used in enumerate(lengths):
            pages = block_table[row, : -(-used // key_cache.shape[1])].long()
            k, v = (cache[pages].flatten(0, 1)[:used].float().repeat_interleave(groups, 1).transpose(0, 1)
                    for cache in (key_cache, value_cache))
            scores = query[row].float().unsqueeze(1) @ k.mT * self.scale
            if used:
                output[row] = (scores.softmax(-1) @ v).squeeze(1).to(query.dtype)
        return output
