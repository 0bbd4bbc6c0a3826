"""Qwen3's block of experts."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import check_choice, num_experts, optional

from .fused_moe import FusedMoE
from .parallel_linear import ReplicatedLinear


class Qwen3MoeSparseMoeBlock(nn.Module):
    """y = sum of the num_experts_per_tok experts of x, weighted by the router's softmax.

    hidden_states: [T, hidden_size] -> [T, hidden_size], summed over ranks. With norm_topk_prob the weights of a token
    sum to one. config: num_experts, num_experts_per_tok, hidden_size, moe_intermediate_size, norm_topk_prob.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        check_choice("hidden_act", config.hidden_act, "silu")
        experts = num_experts(config)
        self.gate = ReplicatedLinear(config.hidden_size, experts, False, dtype, f"{prefix}.gate")
        self.experts = FusedMoE(
            experts, config.num_experts_per_tok, config.hidden_size, config.moe_intermediate_size, dtype,
            reduce_results=True, renormalize=bool(optional(config, "norm_topk_prob", False)),
            prefix=f"{prefix}.experts",
        )  # fmt: skip

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The router, then the experts."""
        x = hidden_states.view(-1, hidden_states.shape[-1])
        router_logits, _ = self.gate(x)
        y: torch.Tensor = self.experts(x, router_logits)
        return y.view(hidden_states.shape)
