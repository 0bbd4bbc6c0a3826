"""GPT-OSS's block of experts, with biases and a clamped SwiGLU."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import num_experts, optional
from fastkernels.runtime.weights import Stacked

from .fused_moe import ALL, FusedMoE
from .parallel_linear import ReplicatedLinear

EXPERT_STACKS = (
    Stacked("experts.w13.weight", {"experts.gate_up_proj": (ALL,)}),
    Stacked("experts.w13.bias", {"experts.gate_up_proj_bias": (ALL,)}),
    Stacked("experts.w2.weight", {"experts.down_proj": (ALL,)}),
    Stacked("experts.w2.bias", {"experts.down_proj_bias": (ALL,)}),
)
"""How the checkpoint names the experts' tensors; it stores weights as [E, in, out], gate and up alternating."""


class MLPBlock(nn.Module):
    """y = sum of the num_experts_per_tok experts of x, weighted by the softmax over their router logits.

    x: [T, hidden_size] -> [T, hidden_size], summed over ranks. config: num_local_experts, num_experts_per_tok,
    hidden_size, intermediate_size, swiglu_alpha (1.702), swiglu_limit (7.0).
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        experts = num_experts(config)
        self.router = ReplicatedLinear(config.hidden_size, experts, True, dtype, f"{prefix}.router")
        self.experts = FusedMoE(
            experts, config.num_experts_per_tok, config.hidden_size, config.intermediate_size, dtype,
            reduce_results=True, renormalize=True, prefix=f"{prefix}.experts", activation="swigluoai", has_bias=True,
            swiglu_alpha=optional(config, "swiglu_alpha", 1.702), swiglu_limit=optional(config, "swiglu_limit", 7.0),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The router, then the experts."""
        router_logits, _ = self.router(x)
        y: torch.Tensor = self.experts(x, router_logits)
        return y
