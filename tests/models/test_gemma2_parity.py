"""Gemma 2 against transformers."""

from typing import ClassVar

from models.parity import Parity

GEMMA2 = {"model_type": "gemma2", "num_hidden_layers": 3, "head_dim": 32, "sliding_window": 12,
          "query_pre_attn_scalar": 2, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}  # fmt: skip


class TestGemma2(Parity):
    configs: ClassVar = {
        "soft-caps": GEMMA2,
        "no-caps": GEMMA2 | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True},
    }
    swaps: ClassVar = (
        *Parity.swaps, ("input_layernorm", "pre_feedforward_layernorm"),
        ("post_attention_layernorm", "post_feedforward_layernorm"), ("layers.0.", "layers.1."),
    )  # fmt: skip
