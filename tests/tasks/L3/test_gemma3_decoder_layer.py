"""gemma3_decoder_layer against transformers' layer, with and without a window."""

import pytest
from reference_blocks import check_layer, reference_model

from fastkernels.tasks.baseline.L3.gemma3_decoder_layer import Gemma3DecoderLayer

CONFIG = {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 5,
          "layer_types": ["sliding_attention", "full_attention"]}  # fmt: skip


@pytest.mark.parametrize("layer", [0, 1])
def test_transformers_layer(layer):
    model = reference_model(**CONFIG)
    check_layer(model, lambda: Gemma3DecoderLayer(model.config, prefix=f"model.layers.{layer}"), layer)


def test_the_kind_of_another_layer_is_seen():
    model = reference_model(**CONFIG)
    with pytest.raises(AssertionError, match="not close"):
        check_layer(model, lambda: Gemma3DecoderLayer(model.config, prefix="model.layers.0"), 1)
