"""GPT-OSS against transformers, and what parity finds where a part of it is wrong."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from models.parity import Parity, Tiny, check, generate, generate_from, make_tiny

from fastkernels.engine import load_model

WINDOW, FULL = "sliding_attention", "full_attention"
YARN = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "truncate": False, "original_max_position_embeddings": 64}  # fmt: skip
OSS = {"model_type": "gpt_oss", "num_hidden_layers": 4, "head_dim": 16, "sliding_window": 12, "num_local_experts": 8,
       "num_experts_per_tok": 3, "rope_parameters": YARN}  # fmt: skip


class TestGptOss(Parity):
    configs: ClassVar = {
        "alternating": OSS,
        "wide-heads": OSS | {"num_hidden_layers": 3, "head_dim": 32, "layer_types": [FULL, WINDOW, WINDOW],
                             "rope_parameters": YARN | {"truncate": True}},
        "narrow-limit": OSS | {"swiglu_limit": 1.0, "num_key_value_heads": 1, "num_experts_per_tok": 1},
        "no-biases": OSS | {"attention_bias": False, "num_local_experts": 32, "num_experts_per_tok": 4},
    }  # fmt: skip
    swaps: ClassVar = (
        ("k_proj", "v_proj"), ("input_layernorm", "post_attention_layernorm"), ("layers.0.", "layers.1."),
    )  # fmt: skip


@pytest.fixture
def alternating(tmp_path: Path) -> Tiny:
    return make_tiny(OSS, tmp_path)


@pytest.mark.parametrize("change", [
    {"sliding_window": 11}, {"sliding_window": 13}, {"layer_types": [FULL, WINDOW] * 2}, {"swiglu_limit": 1.0},
    {"rope_parameters": YARN | {"truncate": True}}, {"rope_parameters": YARN | {"attention_factor": 1.0}},
    {"num_experts_per_tok": 2},
], ids=str)  # fmt: skip
def test_another_config_is_seen(alternating: Tiny, change: dict[str, Any]) -> None:
    path = alternating.directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate_from(alternating.directory, alternating.prompts, steps=0), alternating, alternating.prompts)


@pytest.mark.parametrize("name", ["self_attn.sinks", "mlp.router.bias", "mlp.experts.w2.bias"])
def test_a_missing_sink_or_bias_is_seen(alternating: Tiny, name: str) -> None:
    model = load_model(alternating.directory, dtype=torch.float32)
    check(generate(model, alternating.prompts, steps=0), alternating, alternating.prompts)
    model.get_parameter(f"model.layers.1.{name}").fill_(-torch.inf if "sink" in name else 0.0)
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate(model, alternating.prompts, steps=0), alternating, alternating.prompts)
