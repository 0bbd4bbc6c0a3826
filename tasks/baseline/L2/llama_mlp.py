"""Llama's gated MLP, which the other dense families with SiLU share."""

import torch
from torch import nn

from fastkernels.runtime.model_config import check_choice

from ..L1.silu_and_mul import SiluAndMul
from .parallel_linear import MergedColumnParallelLinear, RowParallelLinear


class LlamaMLP(nn.Module):
    """y = down_proj(silu(gate) * up), gate and up from one projection.

    x: [T, hidden_size] -> [T, hidden_size]; without reduce_results this rank's part of the sum.
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, hidden_act: str = "silu", bias: bool = False, prefix: str = "",
        reduce_results: bool = True, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_choice("hidden_act", hidden_act, "silu")
        self.gate_up_proj = MergedColumnParallelLinear(
            hidden_size, [intermediate_size] * 2, bias, params_dtype=dtype, prefix=f"{prefix}.gate_up_proj"
        )
        self.down_proj = RowParallelLinear(
            intermediate_size, hidden_size, bias, params_dtype=dtype, reduce_results=reduce_results,
            prefix=f"{prefix}.down_proj",
        )  # fmt: skip
        self.act_fn = SiluAndMul()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        gate_up, _ = self.gate_up_proj(x)
        y: torch.Tensor
        y, _ = self.down_proj(self.act_fn(gate_up))
        return y
