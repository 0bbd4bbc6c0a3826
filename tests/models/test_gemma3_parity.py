"""Gemma 3 against transformers, and what parity finds where a part of it is wrong."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from models.parity import TINY, Parity, Tiny, check, generate_from, make_tiny, save_tiny
from safetensors.torch import save_file

from fastkernels.engine import load_model
from fastkernels.tasks.baseline.L4._decoder import DecoderModel
from fastkernels.tasks.baseline.L4.gemma3 import Gemma3Model

WINDOW, FULL = "sliding_attention", "full_attention"
DEFAULT = {WINDOW: {"rope_type": "default", "rope_theta": 1e4}, FULL: {"rope_type": "default", "rope_theta": 1e6}}
SCALED = DEFAULT | {FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}
GEMMA = {"model_type": "gemma3_text", "num_hidden_layers": 4, "head_dim": 32, "sliding_window": 12,
         "query_pre_attn_scalar": 20, "layer_types": [WINDOW, FULL] * 2, "rope_parameters": DEFAULT}  # fmt: skip


class TestGemma3(Parity):
    configs: ClassVar = {
        "alternating": GEMMA,
        "five-to-one": GEMMA | {"num_hidden_layers": 7, "layer_types": None, "rope_parameters": SCALED},
        "untied": GEMMA | {"tie_word_embeddings": False, "attention_bias": True, "final_logit_softcapping": 5.0},
    }
    swaps: ClassVar = (
        *Parity.swaps, ("q_norm", "k_norm"), ("input_layernorm", "pre_feedforward_layernorm"),
        ("post_attention_layernorm", "post_feedforward_layernorm"), ("layers.0.", "layers.1."),
    )  # fmt: skip


class TestGemma3WithImages(Parity):
    """The text part of a checkpoint that has a part for images too."""

    configs: ClassVar = {"published-names": {}, "names-of-parts": {}}
    swaps: ClassVar = (("k_proj", "v_proj"),)

    @pytest.fixture(scope="class")
    @classmethod
    def tiny(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
        """A model of transformers' class for images and text, saved under one of the two schemes of names."""
        directory = tmp_path_factory.mktemp("tiny")
        tiny = save_tiny(with_images(), directory)
        if request.param == "names-of-parts":
            tensors = {name: tensor for name, tensor in tiny.reference.state_dict().items() if name != "lm_head.weight"}
            assert any(name.startswith("model.language_model.layers.0.") for name in tensors)
            save_file(tensors, directory / "model.safetensors")
        return tiny


def with_images() -> torch.nn.Module:
    """A tiny Gemma3ForConditionalGeneration."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = Gemma3Config(text_config=TINY | GEMMA, vision_config=vision, mm_tokens_per_image=4)
    config._attn_implementation = "eager"
    return Gemma3ForConditionalGeneration(config)


@pytest.fixture
def alternating(tmp_path: Path) -> Tiny:
    return make_tiny(GEMMA, tmp_path)


@pytest.mark.parametrize("change", [
    {"sliding_window": 11}, {"sliding_window": 13}, {"query_pre_attn_scalar": 32}, {"layer_types": [FULL, WINDOW] * 2},
    {"rope_parameters": {WINDOW: DEFAULT[FULL], FULL: DEFAULT[WINDOW]}}, {"rope_parameters": SCALED},
], ids=str)  # fmt: skip
def test_another_config_is_seen(alternating: Tiny, change: dict[str, Any]) -> None:
    path = alternating.directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate_from(alternating.directory, alternating.prompts, steps=0), alternating, alternating.prompts)


def test_a_missing_embedding_scale_is_seen(alternating: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gemma3Model, "embed_input_ids", DecoderModel.embed_input_ids)
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate_from(alternating.directory, alternating.prompts, steps=0), alternating, alternating.prompts)


def test_the_embedding_scale_is_rounded_as_in_transformers(tmp_path: Path) -> None:
    tiny = make_tiny(GEMMA | {"hidden_size": 60}, tmp_path)  # whose root, 7.746, is 7.75 in bfloat16
    ids = torch.arange(TINY["vocab_size"])
    embedding = tiny.reference.bfloat16().model.embed_tokens
    got = load_model(tiny.directory, dtype=torch.bfloat16).model.embed_input_ids(ids)
    assert torch.equal(got, embedding(ids))
    assert not torch.equal(got, torch.nn.functional.embedding(ids, embedding.weight) * 60**0.5)
