"""Phi-3 and Phi-4 against transformers."""

from typing import ClassVar

from models.parity import Parity


class TestPhi3(Parity):
    configs: ClassVar = {
        "window": {"model_type": "phi3", "sliding_window": 12, "num_key_value_heads": 4},
        "full-partial": {"model_type": "phi3", "partial_rotary_factor": 0.5},
    }
    swaps: ClassVar = (("input_layernorm", "post_attention_layernorm"), ("layers.0.", "layers.1."))
