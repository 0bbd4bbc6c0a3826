"""llama_attention against transformers' block, whole and shared out."""

import pytest
import torch
from reference_blocks import check_attention, flow, in_context, rank_of, reference_model

from fastkernels.tasks.baseline.L2.llama_attention import LlamaAttention

CONFIGS = {
    "llama3": {
        "model_type": "llama", "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        },
    },
    "biases": {"model_type": "llama", "attention_bias": True, "head_dim": 32},
    "mistral": {"model_type": "mistral", "sliding_window": 5},
}  # fmt: skip


def attention(config):
    bias = getattr(config, "attention_bias", False)
    return LlamaAttention(
        config, config.hidden_size, config.num_attention_heads, config.num_key_value_heads,
        config.max_position_embeddings, bias, bias, prefix="model.layers.1.self_attn",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_block(name, size):
    model = reference_model(**CONFIGS[name])
    check_attention(model, lambda: attention(model.config), size)


def test_a_lost_bias_is_seen():
    model = reference_model(**CONFIGS["biases"])
    model.model.layers[1].self_attn.o_proj.bias.data[3] += 0.01
    x, expected = flow(model, "model.layers.1.self_attn")
    model.model.layers[1].self_attn.o_proj.bias.data[3] -= 0.01
    block = rank_of(1, 0, lambda: attention(model.config), model.model.layers[1].self_attn.state_dict())
    got = in_context(block, lambda batch: block(batch.positions, x))
    assert ((got - expected).abs() > 1e-5).any(dim=0).nonzero().tolist() == [[3]]
    torch.testing.assert_close(got[:, :3], expected[:, :3], atol=1e-5, rtol=1e-5)
