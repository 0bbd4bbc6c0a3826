"""qwen2_decoder_layer against transformers' layer."""

import pytest
from reference_blocks import check_layer, reference_model

from fastkernels.tasks.baseline.L3.qwen2_decoder_layer import Qwen2DecoderLayer

CONFIGS = ({}, {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1})


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_transformers_layer(config):
    model = reference_model(model_type="qwen2", **config)
    check_layer(model, lambda: Qwen2DecoderLayer(model.config, prefix="model.layers.1"))
