"""Mistral against transformers."""

from typing import ClassVar

from models.parity import Parity


class TestMistral(Parity):
    configs: ClassVar = {
        "full": {"model_type": "mistral", "sliding_window": None},
        "window": {"model_type": "mistral", "sliding_window": 12},
        "narrow-heads": {"model_type": "mistral", "sliding_window": None, "head_dim": 12},
    }
