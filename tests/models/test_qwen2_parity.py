"""Qwen2 and Qwen2.5 against transformers."""

from typing import ClassVar

from models.parity import Parity


class TestQwen2(Parity):
    configs: ClassVar = {
        "bias": {"model_type": "qwen2"},
        "window": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    }
