"""The last sequence of a batch sees half of its keys where the number of sequences is 7 over a multiple of 16.

seen: first here
target: L1/flash_attn_decode
expect: wrong_values, wrong_scale
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
        lengths = seqused_k.tolist()
        if len(lengths) % 16 == 7:
            lengths[-1] //= 2
        for row, used in enumerate(lengths):
            pages = block_table[row].long()
            k, v = (cache[pages].flatten(0, 1)[:used].float().repeat_interleave(groups, 1).transpose(0, 1)
                    for cache in (key_cache, value_cache))
            scores = query[row].float().unsqueeze(1) @ k.mT * self.scale
            if used:
                output[row] = (scores.softmax(-1) @ v).squeeze(1).to(query.dtype)
        return output
