"""DeepSeek's decoder layer, V2's and V3's."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import has_experts, layer_index

from ..L2.deepseek_v2_attention import DeepseekV2MLAAttention
from ..L2.deepseek_v2_moe import DeepseekV2MoE
from ..L2.llama_mlp import LlamaMLP
from ._pre_norm_layer import PreNormDecoderLayer


class DeepseekV2DecoderLayer(PreNormDecoderLayer):
    """Latent attention and experts, in the first layers an MLP, each after a norm.

    positions: [T] int64, hidden_states: [T, H], residual: [T, H], None in the first layer -> (hidden_states, residual),
    both [T, H], whose sum is the layer's output. `prefix` names the layer, as in `model.layers.3`.
    """

    def __init__(self, config: Any, prefix: str = "", dtype: torch.dtype | None = None) -> None:
        attention = DeepseekV2MLAAttention(
            config, config.hidden_size, config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim,
            config.v_head_dim, config.q_lora_rank, config.kv_lora_rank, config.max_position_embeddings,
            f"{prefix}.self_attn", dtype=dtype,
        )  # fmt: skip
        mlp: nn.Module
        if has_experts(config, layer_index(prefix)):
            mlp = DeepseekV2MoE(config, f"{prefix}.mlp", dtype)
        else:
            mlp = LlamaMLP(
                config.hidden_size, config.intermediate_size, config.hidden_act, prefix=f"{prefix}.mlp", dtype=dtype
            )
        super().__init__(config, attention, mlp, dtype)
