"""DeepSeek-V2 and V2-Lite against transformers."""

from typing import ClassVar

import pytest
from models.parity import Parity, Tiny, check, generate_from

from fastkernels.tasks.baseline.L2 import deepseek_v2_attention

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
        "beta_fast": 32, "beta_slow": 1}  # fmt: skip
LATENT = {"model_type": "deepseek_v2", "num_key_value_heads": 4, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
          "qk_rope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 16, "n_shared_experts": 2,
          "num_experts_per_tok": 4, "moe_intermediate_size": 48, "first_k_dense_replace": 1}  # fmt: skip
SWAPS = (("gate_proj", "up_proj"), ("experts.0.", "experts.1."), ("input_layernorm", "post_attention_layernorm"))


class TestDeepseekV2(Parity):
    """Queries through a low rank, experts by groups."""

    configs: ClassVar = {
        "yarn": LATENT | {
            "q_lora_rank": 32, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
            "routed_scaling_factor": 2.5, "rope_parameters": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
        },
        "two-mscales-biases": LATENT | {
            "q_lora_rank": 32, "topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1,
            "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}, "attention_bias": True,
            "num_hidden_layers": 3,
        },
    }  # fmt: skip
    swaps: ClassVar = (*SWAPS, ("q_a_layernorm", "kv_a_layernorm"))

    @pytest.mark.parametrize("wrong", ["scale-without-mscale", "rope-by-halves"])
    def test_a_wrong_detail_is_seen(self, tiny: Tiny, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if wrong == "scale-without-mscale":
            monkeypatch.setattr(deepseek_v2_attention, "attention_scale", lambda width, rope: width**-0.5)
        else:
            build = deepseek_v2_attention.rotary_embedding
            monkeypatch.setattr(deepseek_v2_attention, "rotary_embedding",
                                lambda *args, is_neox_style: build(*args, is_neox_style=not is_neox_style))
        with pytest.raises(AssertionError, match="logits differ"):
            check(generate_from(tiny.directory, tiny.prompts, steps=0), tiny, tiny.prompts)


class TestDeepseekV2Lite(Parity):
    """Queries straight from the hidden states, the best experts of all."""

    configs: ClassVar = {
        "yarn": LATENT | {
            "q_lora_rank": None, "topk_method": "greedy",
            "rope_parameters": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
        },
        "plain-rope": LATENT | {"q_lora_rank": None, "topk_method": "greedy", "v_head_dim": 16},
    }  # fmt: skip
    swaps: ClassVar = SWAPS
