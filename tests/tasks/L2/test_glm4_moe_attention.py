"""glm4_moe_attention against transformers' block, whole and shared out."""

import copy

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.tasks.baseline.L2.glm4_moe_attention import Glm4MoeAttention

CONFIG = {"model_type": "glm4_moe", "head_dim": 32, "attention_bias": True, "use_qk_norm": True, "rms_norm_eps": 1e-3,
          "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}  # fmt: skip


def attention(config, layer=1):
    return Glm4MoeAttention(
        config, config.hidden_size, config.num_attention_heads, config.num_key_value_heads,
        config.max_position_embeddings, config.head_dim, config.rms_norm_eps, config.attention_bias,
        config.use_qk_norm, f"model.layers.{layer}.self_attn",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("layer", [1])
def test_transformers_block(layer, size):
    model = reference_model(**CONFIG)
    check_attention(model, lambda: attention(model.config, layer), size, layer)


@pytest.mark.parametrize("change", [
    {"rms_norm_eps": 1e-6}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
], ids=str)  # fmt: skip
def test_another_config_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: attention(config), 1)
