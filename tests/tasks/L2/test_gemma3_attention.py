"""gemma3_attention against transformers' block, whole and shared out, for layers with and without a window."""

import copy

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.errors import ModelError
from fastkernels.tasks.baseline.L2.gemma3_attention import Gemma3Attention

CONFIG = {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 5, "query_pre_attn_scalar": 20,
          "layer_types": ["sliding_attention", "full_attention"], "rms_norm_eps": 1e-3}  # fmt: skip


def attention(config, layer):
    return Gemma3Attention(
        config, config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        config.max_position_embeddings, f"model.layers.{layer}.self_attn",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_transformers_block(bias, layer, size):
    model = reference_model(**CONFIG, attention_bias=bias)
    check_attention(model, lambda: attention(model.config, layer), size, layer)


@pytest.mark.parametrize("change", [{"sliding_window": 4}, {"sliding_window": 6}, {"query_pre_attn_scalar": 32},
                                    {"rms_norm_eps": 1e-6}], ids=str)  # fmt: skip
def test_another_config_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: attention(config, 0), 1, 0)


@pytest.mark.parametrize(("name", "value"), [("attn_logit_softcapping", 50.0), ("use_bidirectional_attention", True)])
def test_what_it_has_no_kernel_for_is_refused(name, value):
    config = reference_model(**CONFIG).config
    setattr(config, name, value)
    with pytest.raises(ModelError, match=f"{name}: '{value}' is not one of"):
        attention(config, 0)
