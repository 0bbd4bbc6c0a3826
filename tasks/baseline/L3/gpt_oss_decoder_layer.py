"""GPT-OSS's decoder layer."""

from typing import Any

import torch

from ..L2.gpt_oss_attention import OAIAttention
from ..L2.gpt_oss_moe import MLPBlock
from ._pre_norm_layer import PreNormDecoderLayer


class TransformerBlock(PreNormDecoderLayer):
    """Attention and experts, each after a norm.

    hidden_states: [T, H], positions: [T] int64, residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output; vLLM has them in this order. `prefix` names the layer, as in
    `model.layers.3`, and its number tells whether it has a window. Attention is called `self_attn` here, `attn` in
    vLLM.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        attention = OAIAttention(config, f"{prefix}.self_attn", dtype)
        super().__init__(config, attention, MLPBlock(config, f"{prefix}.mlp", dtype), dtype)

    def forward(
        self, hidden_states: torch.Tensor, positions: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The parts in order."""
        return super().forward(positions, hidden_states, residual)
