"""The last head's values are those of the head before.

seen: first here
target: L1/flash_attn_prefill
expect: wrong_values, wrong_scale
twin: masked_attention
options: --fk-no-timing
"""

import torch
from torch import nn


class FlashAttnPrefill(nn.Module):
    def __init__(self, num_heads, head_size, scale, num_kv_heads, sliding_window=None):
        super().__init__()
        self.scale = scale

    def forward(self, query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, sinks=None):
        groups = query.shape[1] // key.shape[1]
        q = query.float().transpose(0, 1)
        k, v = (t.float().repeat_interleave(groups, 1).transpose(0, 1) for t in (key, value))
        hidden = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).triu(1)
        scores = (q @ k.mT * self.scale).masked_fill(hidden, float("-inf"))
        output = (scores.softmax(-1) @ v).transpose(0, 1)
        output[:, -1] = output[:, -2]
        return output.to(query.dtype)
