"""GLM-4.5 against transformers."""

from typing import ClassVar

from models.parity import Parity

GLM = {"model_type": "glm4_moe", "head_dim": 32, "n_routed_experts": 16, "num_experts_per_tok": 4,
       "moe_intermediate_size": 48, "attention_bias": True}  # fmt: skip


class TestGlm4Moe(Parity):
    configs: ClassVar = {
        "air": GLM,
        "qk-norm": GLM | {"use_qk_norm": True, "routed_scaling_factor": 2.5, "n_group": 4, "topk_group": 2,
                          "num_hidden_layers": 3, "first_k_dense_replace": 2, "attention_bias": False},
    }  # fmt: skip
    swaps: ClassVar = (*Parity.swaps, ("experts.0.", "experts.1."))
