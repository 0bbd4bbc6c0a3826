"""Gemma 3's gated MLP."""

import torch
from torch import nn

from fastkernels.runtime.model_config import check_choice

from ..L1.gelu_and_mul import GeluAndMul
from .parallel_linear import MergedColumnParallelLinear, RowParallelLinear


class Gemma3MLP(nn.Module):
    """y = down_proj(gelu(gate) * up), gate and up from one projection, GELU in its form with tanh.

    x: [T, hidden_size] -> [T, hidden_size].
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, hidden_activation: str, prefix: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_choice("hidden_activation", hidden_activation, "gelu_pytorch_tanh")
        self.gate_up_proj = MergedColumnParallelLinear(
            hidden_size, [intermediate_size] * 2, False, params_dtype=dtype, prefix=f"{prefix}.gate_up_proj"
        )
        self.down_proj = RowParallelLinear(
            intermediate_size, hidden_size, False, params_dtype=dtype, prefix=f"{prefix}.down_proj"
        )
        self.act_fn = GeluAndMul("tanh")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        gate_up, _ = self.gate_up_proj(x)
        y: torch.Tensor
        y, _ = self.down_proj(self.act_fn(gate_up))
        return y
