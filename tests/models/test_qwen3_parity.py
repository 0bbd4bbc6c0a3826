"""Qwen3 against transformers."""

from typing import ClassVar

from models.parity import Parity


class TestQwen3(Parity):
    configs: ClassVar = {"qk-norm": {"model_type": "qwen3", "head_dim": 32}}
    swaps: ClassVar = (*Parity.swaps, ("q_norm", "k_norm"))
