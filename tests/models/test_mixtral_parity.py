"""Mixtral against transformers."""

from typing import ClassVar

from models.parity import Parity


class TestMixtral(Parity):
    configs: ClassVar = {
        "8-experts": {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2},
        "window": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 3, "sliding_window": 12},
    }
    swaps: ClassVar = (("k_proj", "v_proj"), ("w1", "w3"), ("experts.0.", "experts.1."))
