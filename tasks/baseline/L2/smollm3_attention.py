"""SmolLM3's attention block: Llama's, in some layers without positions."""

from typing import Any

import torch

from fastkernels.runtime.model_config import has_positions, head_size, layer_index, rope_parameters, sliding_window

from ._attention_block import AttentionBlock


class SmolLM3Attention(AttentionBlock):
    """Grouped-query attention, with rotary embedding where the config's no_rope_layers holds a 1 (NoPE elsewhere).

    positions: [T] int64, hidden_states: [T, hidden_size] -> [T, hidden_size]. Reads the forward context; the layer's
    number is read off `prefix`. vLLM runs this family by transformers' classes; the interface is LlamaAttention's.
    """

    def __init__(
        self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, max_position_embeddings: int = 8192,
        bias: bool = False, bias_o_proj: bool = False, prefix: str = "", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        layer = layer_index(prefix)
        super().__init__(
            hidden_size, num_heads, num_kv_heads, head_size(config), max_position_embeddings,
            rope_parameters(config, layer) if has_positions(config, layer) else None, bias=bias,
            bias_o_proj=bias_o_proj, sliding_window=sliding_window(config, layer), prefix=prefix, dtype=dtype,
        )  # fmt: skip
