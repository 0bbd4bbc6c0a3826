"""StarCoder2 against transformers."""

from typing import ClassVar

from models.parity import Parity


class TestStarcoder2(Parity):
    configs: ClassVar = {
        "window": {"model_type": "starcoder2", "sliding_window": 12},
        "no-biases": {"model_type": "starcoder2", "use_bias": False, "tie_word_embeddings": False},
    }
    swaps: ClassVar = (("k_proj", "v_proj"), ("input_layernorm", "post_attention_layernorm"))
