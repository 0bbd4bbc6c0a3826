"""DeepSeek's block of experts: those that the router chooses by groups, and those that every token shares."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import check_choice, num_experts, optional

from ..L1.allreduce import AllReduce
from .fused_moe import FusedMoE
from .llama_mlp import LlamaMLP
from .parallel_linear import ReplicatedLinear

METHODS = ("greedy", "group_limited_greedy", "noaux_tc")


def topk_method(config: Any) -> str:
    """How experts are chosen; configs of transformers' own DeepSeek-V3 leave it out. ModelError for others."""
    found = str(optional(config, "topk_method", "noaux_tc" if is_v3(config) else "greedy"))
    return check_choice("topk_method", found, *METHODS)


def is_v3(config: Any) -> bool:
    """Whether the config is DeepSeek-V3's, or of a family that chooses experts as it does."""
    return optional(config, "model_type", "") in ("deepseek_v3", "glm4_moe")


class DeepseekV2MoE(nn.Module):
    """y = shared experts of x + sum of the chosen experts of x, weighted (DeepSeek-V2 and -V3, 2024).

    hidden_states: [T, hidden_size] -> [T, hidden_size], summed over ranks. topk_method `greedy`: the best experts;
    `group_limited_greedy`: the best within topk_group of n_group groups; `noaux_tc`: the same by sigmoid scores with
    gate.e_score_correction_bias (float32). Weights are scaled by routed_scaling_factor. config: n_routed_experts,
    num_experts_per_tok, hidden_size, moe_intermediate_size, n_shared_experts, norm_topk_prob.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        check_choice("hidden_act", config.hidden_act, "silu")
        method = topk_method(config)
        corrected, grouped = method == "noaux_tc", method != "greedy"
        experts, inner = num_experts(config), config.moe_intermediate_size
        self.gate = ReplicatedLinear(config.hidden_size, experts, False, dtype, f"{prefix}.gate")
        bias = nn.Parameter(torch.zeros(experts, dtype=torch.float32)) if corrected else None
        self.gate.register_parameter("e_score_correction_bias", bias)
        self.experts = FusedMoE(
            experts, config.num_experts_per_tok, config.hidden_size, inner, dtype, reduce_results=False,
            renormalize=bool(optional(config, "norm_topk_prob", is_v3(config))), use_grouped_topk=True,
            num_expert_group=config.n_group if grouped else None, topk_group=config.topk_group if grouped else None,
            prefix=f"{prefix}.experts",
            scoring_func=str(optional(config, "scoring_func", "sigmoid" if corrected else "softmax")),
            routed_scaling_factor=float(optional(config, "routed_scaling_factor", 1.0)),
        )  # fmt: skip
        shared = optional(config, "n_shared_experts", 0) * inner
        self.shared_experts = LlamaMLP(
            config.hidden_size, shared, prefix=f"{prefix}.shared_experts", reduce_results=False, dtype=dtype
        ) if shared else None
        self.all_reduce = AllReduce()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The router, the chosen and the shared experts, one sum over ranks."""
        x = hidden_states.view(-1, hidden_states.shape[-1])
        router_logits, _ = self.gate(x)
        y: torch.Tensor = self.experts(x, router_logits, self.gate.e_score_correction_bias)
        if self.shared_experts is not None:
            y = y + self.shared_experts(x)
        y = self.all_reduce(y)
        return y.view(hidden_states.shape)
