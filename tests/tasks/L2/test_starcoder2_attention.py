"""starcoder2_attention against transformers' block, whole and shared out."""

import copy

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.tasks.baseline.L2.starcoder2_attention import Starcoder2Attention

CONFIG = {"model_type": "starcoder2", "sliding_window": 5}


def attention(config, layer=1):
    return Starcoder2Attention(config, f"model.layers.{layer}.self_attn")


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("layer", [1])
def test_transformers_block(layer, size):
    model = reference_model(**CONFIG)
    check_attention(model, lambda: attention(model.config, layer), size, layer)


@pytest.mark.parametrize("change", [{"sliding_window": 4}, {"sliding_window": None}], ids=str)
def test_another_config_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: attention(config), 1)
