"""GPT-OSS's attention block: biases, an attention sink for each head, and two kinds of layers."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import (
    head_size,
    layer_index,
    num_kv_heads,
    optional,
    rope_parameters,
    sliding_window,
)
from fastkernels.runtime.weights import set_weight_loader

from ._attention_block import AttentionBlock


class OAIAttention(AttentionBlock):
    """Grouped-query attention with sinks, over all keys or a window of them.

    hidden_states: [T, hidden_size], positions: [T] int64 -> [T, hidden_size]; vLLM has them in this order. Reads the
    forward context. A head's sink is a logit that takes part in the softmax without a value. config: head sizes,
    layer_types, sliding_window, the rotary embedding, attention_bias (of all four projections, true by default). The
    layer's number is read off `prefix`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        layer, bias = layer_index(prefix), bool(optional(config, "attention_bias", True))
        super().__init__(
            config.hidden_size, config.num_attention_heads, num_kv_heads(config), head_size(config),
            config.max_position_embeddings, rope_parameters(config, layer), bias=bias, bias_o_proj=bias,
            sliding_window=sliding_window(config, layer), prefix=prefix, dtype=dtype,
        )  # fmt: skip

    def make_sinks(self, dtype: torch.dtype | None) -> nn.Parameter:
        """[heads of this rank], loaded from [heads]."""
        heads, projection = self.num_heads, self.qkv_proj

        def load(parameter: nn.Parameter, tensor: torch.Tensor) -> None:
            parameter.copy_(tensor.narrow(0, projection.tp_group.rank * heads, heads))

        sinks = nn.Parameter(torch.empty(heads, dtype=dtype))
        set_weight_loader(sinks, load, lambda: (projection.total_num_heads,))
        return sinks

    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The parts in order."""
        return super().forward(positions, hidden_states)
