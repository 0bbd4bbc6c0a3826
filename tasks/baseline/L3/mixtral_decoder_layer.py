"""Mixtral's decoder layer."""

from typing import Any

import torch

from fastkernels.runtime.model_config import check_choice, num_experts, num_kv_heads

from ..L2.llama_attention import LlamaAttention
from ..L2.mixtral_moe import MixtralMoE
from ._pre_norm_layer import PreNormDecoderLayer


class MixtralDecoderLayer(PreNormDecoderLayer):
    """Attention and experts, each after a norm.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. `prefix` names the layer, as in `model.layers.3`. The experts are
    called `mlp` here, `block_sparse_moe` in vLLM.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        check_choice("hidden_act", config.hidden_act, "silu")
        attention = LlamaAttention(
            config, config.hidden_size, config.num_attention_heads, num_kv_heads(config),
            config.max_position_embeddings, prefix=f"{prefix}.self_attn", dtype=dtype,
        )  # fmt: skip
        experts = MixtralMoE(
            num_experts(config), config.num_experts_per_tok, config.hidden_size, config.intermediate_size, dtype,
            prefix=f"{prefix}.mlp",
        )  # fmt: skip
        super().__init__(config, attention, experts, dtype)
