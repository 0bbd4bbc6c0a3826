"""granite_attention against transformers' block, whole and shared out."""

import copy

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.tasks.baseline.L2.granite_attention import GraniteAttention

CONFIG = {"model_type": "granite", "attention_multiplier": 0.1, "attention_bias": True}


def attention(config, layer=1):
    return GraniteAttention(
        config, config.hidden_size, config.num_attention_heads, config.num_key_value_heads,
        config.max_position_embeddings, config.attention_bias, f"model.layers.{layer}.self_attn",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("layer", [1])
def test_transformers_block(layer, size):
    model = reference_model(**CONFIG)
    check_attention(model, lambda: attention(model.config, layer), size, layer)


@pytest.mark.parametrize("change", [{"attention_multiplier": 0.11}], ids=str)
def test_another_config_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: attention(config), 1)
