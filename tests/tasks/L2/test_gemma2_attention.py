"""gemma2_attention against transformers' block, whole and shared out."""

import copy

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.tasks.baseline.L2.gemma2_attention import Gemma2Attention

CONFIG = {"model_type": "gemma2", "head_dim": 32, "sliding_window": 5, "query_pre_attn_scalar": 2,
          "layer_types": ["sliding_attention", "full_attention"], "attn_logit_softcapping": 2.0}  # fmt: skip


def attention(config, layer=1):
    return Gemma2Attention(
        config, config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        config.max_position_embeddings, config.attn_logit_softcapping, f"model.layers.{layer}.self_attn",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("layer", [0, 1])
def test_transformers_block(layer, size):
    model = reference_model(**CONFIG)
    check_attention(model, lambda: attention(model.config, layer), size, layer)


@pytest.mark.parametrize("change", [
    {"attn_logit_softcapping": None}, {"attn_logit_softcapping": 2.1}, {"query_pre_attn_scalar": 3},
], ids=str)  # fmt: skip
def test_another_config_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: attention(config), 1)
