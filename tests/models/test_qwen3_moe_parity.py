"""Qwen3 with experts against transformers."""

from typing import ClassVar

from models.parity import Parity

MOE = {"model_type": "qwen3_moe", "head_dim": 32, "num_experts": 16, "num_experts_per_tok": 4,
       "moe_intermediate_size": 48}  # fmt: skip


class TestQwen3Moe(Parity):
    configs: ClassVar = {
        "normalised": MOE | {"norm_topk_prob": True},
        "unnormalised": MOE | {"norm_topk_prob": False},
        "some-dense": MOE | {"norm_topk_prob": True, "mlp_only_layers": [0], "num_hidden_layers": 3,
                             "decoder_sparse_step": 2},
    }  # fmt: skip
    swaps: ClassVar = (*Parity.swaps, ("experts.0.", "experts.1."), ("q_norm", "k_norm"))
