"""SmolLM3 against transformers."""

from typing import ClassVar

from models.parity import Parity

SMOL = {"model_type": "smollm3", "num_hidden_layers": 4}


class TestSmolLM3(Parity):
    configs: ClassVar = {
        "every-fourth": SMOL,
        "own-places": SMOL | {"no_rope_layers": [0, 1, 1, 0], "tie_word_embeddings": False, "attention_bias": True,
                              "use_sliding_window": True, "sliding_window": 12},
    }  # fmt: skip
    swaps: ClassVar = (*Parity.swaps, ("layers.2.", "layers.3."))
