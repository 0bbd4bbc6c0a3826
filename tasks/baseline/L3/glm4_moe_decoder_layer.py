"""GLM-4.5's decoder layer."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import head_size, layer_index, num_experts, num_kv_heads, optional

from ..L2.glm4_moe import Glm4MoE
from ..L2.glm4_moe_attention import Glm4MoeAttention
from ..L2.llama_mlp import LlamaMLP
from ._pre_norm_layer import PreNormDecoderLayer


class Glm4MoeDecoderLayer(PreNormDecoderLayer):
    """Attention and experts, in the first layers an MLP, each after a norm.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. `prefix` names the layer, as in `model.layers.3`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        attention = Glm4MoeAttention(
            config, config.hidden_size, config.num_attention_heads, num_kv_heads(config),
            config.max_position_embeddings, head_size(config), config.rms_norm_eps,
            bool(optional(config, "attention_bias", False)), bool(optional(config, "use_qk_norm", False)),
            f"{prefix}.self_attn", dtype,
        )  # fmt: skip
        mlp: nn.Module
        if num_experts(config) and layer_index(prefix) >= optional(config, "first_k_dense_replace", 1):
            mlp = Glm4MoE(config, f"{prefix}.mlp", dtype)
        else:
            mlp = LlamaMLP(
                config.hidden_size, config.intermediate_size, config.hidden_act, prefix=f"{prefix}.mlp", dtype=dtype
            )
        super().__init__(config, attention, mlp, dtype)
