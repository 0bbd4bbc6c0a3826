"""The causal mask is aligned by the longest prompt and the longest context, not by each sequence's own lengths.

seen: public reports of serving engines, 2024 to 2026
target: L1/flash_attn_prefill
expect: wrong_values
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
        groups, output = query.shape[1] // key.shape[1], torch.empty_like(query)
        starts, firsts = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
        for start, end, first, last in zip(starts, starts[1:], firsts, firsts[1:], strict=False):
            q = query[start:end].float().transpose(0, 1)
            k, v = (t[first:last].float().repeat_interleave(groups, 1).transpose(0, 1) for t in (key, value))
            hidden = torch.ones(end - start, last - first, dtype=torch.bool, device=query.device)
            hidden = hidden.triu(1 + max_seqlen_k - max_seqlen_q)
            scores = (q @ k.mT * self.scale).masked_fill(hidden, float("-inf"))
            output[start:end] = (scores.softmax(-1) @ v).transpose(0, 1).to(query.dtype)
        return output
