"""Llama against transformers."""

from typing import ClassVar

from models.parity import Parity

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip


class TestLlama(Parity):
    configs: ClassVar = {
        "llama3": {"model_type": "llama", "rope_parameters": LLAMA3_ROPE},
        "tied": {"model_type": "llama", "tie_word_embeddings": True, "head_dim": 32},
        "biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
        "one-kv-head": {"model_type": "llama", "num_key_value_heads": 1},
    }
