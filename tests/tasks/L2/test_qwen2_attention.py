"""qwen2_attention against transformers' block, whole and shared out."""

import pytest
from reference_blocks import check_attention, reference_model

from fastkernels.runtime.model_config import rope_parameters, sliding_window
from fastkernels.tasks.baseline.L2.qwen2_attention import Qwen2Attention


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 5])
def test_transformers_block(window, size):
    model = reference_model(
        model_type="qwen2", use_sliding_window=window is not None, sliding_window=window, max_window_layers=1
    )
    config = model.config
    assert sliding_window(config, 0) is None
    assert sliding_window(config, 1) == window
    check_attention(model, lambda: Qwen2Attention(
        config.hidden_size, config.num_attention_heads, config.num_key_value_heads, rope_parameters(config),
        config.max_position_embeddings, sliding_window(config, 1),
    ), size)  # fmt: skip
