"""qwen3_decoder_layer against transformers' layer."""

import pytest
from reference_blocks import check_layer, reference_model

from fastkernels.tasks.baseline.L3.qwen3_decoder_layer import Qwen3DecoderLayer

CONFIGS = ({"head_dim": 32}, {"attention_bias": True})


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_transformers_layer(config):
    model = reference_model(model_type="qwen3", **config)
    check_layer(model, lambda: Qwen3DecoderLayer(model.config, prefix="model.layers.1"))
