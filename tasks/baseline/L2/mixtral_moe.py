"""Mixtral's block of experts."""

import torch
from torch import nn

from .fused_moe import FusedMoE
from .parallel_linear import ReplicatedLinear


class MixtralMoE(nn.Module):
    """y = sum of the top_k experts of x, weighted by the softmax over their router logits.

    hidden_states: [T, hidden_size] -> [T, hidden_size], summed over ranks. The router is whole on every rank.
    """

    def __init__(
        self, num_experts: int, top_k: int, hidden_size: int, intermediate_size: int,
        params_dtype: torch.dtype | None = None, prefix: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.hidden_size = hidden_size
        self.gate = ReplicatedLinear(hidden_size, num_experts, False, params_dtype, f"{prefix}.gate")
        self.experts = FusedMoE(
            num_experts, top_k, hidden_size, intermediate_size, params_dtype, reduce_results=True, renormalize=True,
            prefix=f"{prefix}.experts",
        )  # fmt: skip

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The router, then the experts."""
        x = hidden_states.view(-1, self.hidden_size)
        router_logits, _ = self.gate(x)
        y: torch.Tensor = self.experts(x, router_logits)
        return y.view(hidden_states.shape)
