"""StarCoder2's MLP, which is not gated."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import check_choice, optional

from ..L1.gelu import GELU
from .parallel_linear import ColumnParallelLinear, RowParallelLinear


class Starcoder2MLP(nn.Module):
    """y = c_proj(gelu(c_fc(x))), GELU in its form with tanh.

    hidden_states: [T, hidden_size] -> [T, hidden_size]. config: hidden_size, intermediate_size, hidden_act, use_bias
    (true by default).
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        check_choice("hidden_act", config.hidden_act, "gelu_pytorch_tanh")
        bias = bool(optional(config, "use_bias", True))
        self.c_fc = ColumnParallelLinear(
            config.hidden_size, config.intermediate_size, bias, params_dtype=dtype, prefix=f"{prefix}.c_fc"
        )
        self.c_proj = RowParallelLinear(
            config.intermediate_size, config.hidden_size, bias, params_dtype=dtype, prefix=f"{prefix}.c_proj"
        )
        self.act = GELU("tanh")

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        inner, _ = self.c_fc(hidden_states)
        y: torch.Tensor
        y, _ = self.c_proj(self.act(inner))
        return y
