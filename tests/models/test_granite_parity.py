"""Granite 3 against transformers."""

from typing import ClassVar

from models.parity import Parity

GRANITE = {"model_type": "granite", "attention_multiplier": 0.1, "embedding_multiplier": 3.0,
           "residual_multiplier": 0.4, "logits_scaling": 2.0}  # fmt: skip


class TestGranite(Parity):
    configs: ClassVar = {
        "multipliers": GRANITE,
        "biases-tied": GRANITE | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    }
