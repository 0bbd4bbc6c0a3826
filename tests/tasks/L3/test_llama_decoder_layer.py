"""llama_decoder_layer against transformers' layer."""

import pytest
from reference_blocks import check_layer, reference_model

from fastkernels.tasks.baseline.L3.llama_decoder_layer import LlamaDecoderLayer

CONFIGS = ({}, {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-3})


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_transformers_layer(config):
    model = reference_model(model_type="llama", **config)
    check_layer(model, lambda: LlamaDecoderLayer(model.config, prefix="model.layers.1"))
