"""OLMo-2 and OLMo-3 against transformers."""

from typing import ClassVar

from models.parity import Parity

SWAPS = (*Parity.swaps, ("post_attention_layernorm", "post_feedforward_layernorm"), ("layers.0.", "layers.1."))


class TestOlmo2(Parity):
    configs: ClassVar = {
        "grouped": {"model_type": "olmo2"},
        "one-kv-head": {"model_type": "olmo2", "num_key_value_heads": 1},
    }
    swaps: ClassVar = SWAPS


class TestOlmo3(Parity):
    configs: ClassVar = {
        "three-of-four": {"model_type": "olmo3", "num_hidden_layers": 4, "sliding_window": 12,
                          "num_key_value_heads": 4},
    }  # fmt: skip
    swaps: ClassVar = (*SWAPS, ("layers.2.", "layers.3."))
