"""StarCoder2's decoder layer."""

from typing import Any

import torch

from ..L1.layer_norm import LayerNorm
from ..L2.starcoder2_attention import Starcoder2Attention
from ..L2.starcoder2_mlp import Starcoder2MLP
from ._stream_layer import StreamDecoderLayer


class Starcoder2DecoderLayer(StreamDecoderLayer):
    """Attention and MLP, each after a LayerNorm.

    positions: [T] int64, hidden_states: [T, H] -> [T, H]. hidden_states may be overwritten. `prefix` names the layer,
    as in `model.layers.3`.
    """

    norm = LayerNorm

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        attention = Starcoder2Attention(config, f"{prefix}.self_attn", dtype)
        super().__init__(config, attention, Starcoder2MLP(config, f"{prefix}.mlp", dtype), dtype)
