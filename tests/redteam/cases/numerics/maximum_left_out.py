"""Exponentials of scores without the largest one taken off, infinite from 89 on.

seen: public reports of serving engines, 2024 to 2026
target: L1/flash_attn_decode
expect: wrong_nonfinite
twin: paged_decode
options: --fk-no-timing
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
        for row, used in enumerate(seqused_k.tolist()):
            if not used:
                continue
            pages = block_table[row, : -(-used // key_cache.shape[1])].long()
            k, v = (cache[pages].flatten(0, 1)[:used].float().repeat_interleave(groups, 1).transpose(0, 1)
                    for cache in (key_cache, value_cache))
            weights = torch.exp(query[row].float().unsqueeze(1) @ k.mT * self.scale)
            output[row] = (weights @ v / weights.sum(-1, keepdim=True)).squeeze(1).to(query.dtype)
        return output
