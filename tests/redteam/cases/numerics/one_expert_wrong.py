"""The rows of the last expert are not multiplied at all.

seen: first here
target: L1/moe_grouped_gemm
expect: wrong_values, wrong_scale
twin: repacked_linear
options: --fk-no-timing
"""

import torch
from torch import nn


class MoeGroupedGemm(nn.Module):
    def __init__(self, num_experts, input_size, output_size, top_k=1, bias=False, dtype=None):
        super().__init__()
        self.top_k = top_k
        self.weight = nn.Parameter(torch.empty(num_experts, output_size, input_size, dtype=dtype))

    def forward(self, x, sorted_token_ids, expert_ids, num_tokens_post_padded=None, topk_weights=None):
        rows = x.repeat_interleave(self.top_k, 0)
        output = torch.zeros(rows.shape[0], self.weight.shape[1], dtype=x.dtype, device=x.device)
        for expert in range(self.weight.shape[0] - 1):
            own = expert_ids == expert
            output[own] = (rows[own].float() @ self.weight[expert].float().t()).to(x.dtype)
        return output
