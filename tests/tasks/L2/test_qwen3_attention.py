"""qwen3_attention against transformers' block, whole and shared out."""

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.runtime.model_config import rope_parameters
from fastkernels.tasks.baseline.L2.qwen3_attention import Qwen3Attention


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_transformers_block(bias, size):
    model = reference_model(model_type="qwen3", head_dim=32, attention_bias=bias, rms_norm_eps=1e-3)
    config = model.config
    check_attention(model, lambda: Qwen3Attention(
        config.hidden_size, config.num_attention_heads, config.num_key_value_heads, rope_parameters(config),
        config.max_position_embeddings, config.head_dim, config.rms_norm_eps, bias, bias,
    ), size)  # fmt: skip
