"""DeepSeek-V3 against transformers."""

from typing import ClassVar

import pytest
import torch
from models.parity import Parity, Tiny, check, generate_from, make_tiny
from models.test_deepseek_v2_parity import LATENT, SWAPS, YARN
from safetensors.torch import load_file, save_file

from fastkernels.engine import load_model
from fastkernels.errors import WeightsError

V3 = LATENT | {"model_type": "deepseek_v3", "q_lora_rank": 32, "n_group": 4, "topk_group": 2, "n_shared_experts": 1,
               "routed_scaling_factor": 2.5}  # fmt: skip


class TestDeepseekV3(Parity):
    configs: ClassVar = {
        "yarn": V3 | {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}, "norm_topk_prob": True},
        "halves": V3 | {"rope_interleave": False, "norm_topk_prob": False, "num_hidden_layers": 3},
        "no-low-rank": V3 | {"q_lora_rank": None, "first_k_dense_replace": 0},
    }  # fmt: skip
    swaps: ClassVar = SWAPS


@pytest.fixture
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A model whose file a test may add tensors to."""
    return make_tiny(V3, tmp_path_factory.mktemp("tiny"))


def add_tensors(tiny: Tiny, **tensors: torch.Tensor) -> None:
    """Add tensors to the model's file; `__` in a name stands for a dot."""
    path = tiny.directory / "model.safetensors"
    save_file(load_file(path) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}, path)


def test_a_layer_that_predicts_further_tokens_is_left_out(checkpoint: Tiny) -> None:
    add_tensors(checkpoint, model__layers__2__eh_proj__weight=torch.ones(64, 128))
    add_tensors(checkpoint, model__layers__2__self_attn__kv_b_proj__weight=torch.ones(112, 32))
    check(generate_from(checkpoint.directory, checkpoint.prompts[:1]), checkpoint, checkpoint.prompts[:1])


def test_a_layer_that_no_config_announces_is_an_error(checkpoint: Tiny) -> None:
    add_tensors(checkpoint, model__layers__3__enorm__weight=torch.ones(64))
    with pytest.raises(WeightsError, match=r"no place for: 'model\.layers\.3\.enorm\.weight'"):
        load_model(checkpoint.directory)


def test_scales_of_quantized_weights_are_refused(checkpoint: Tiny) -> None:
    add_tensors(checkpoint, model__layers__0__self_attn__o_proj__weight_scale_inv=torch.ones(1, 1))
    with pytest.raises(WeightsError, match=r"'model\.layers\.0\.self_attn\.o_proj\.weight_scale_inv' is the scale of a "
                                           r"quantized weight: .* use a checkpoint in bfloat16"):
        load_model(checkpoint.directory)


def test_a_correction_bias_that_is_left_out_is_seen(checkpoint: Tiny) -> None:
    zeros = torch.zeros(V3["n_routed_experts"])
    add_tensors(checkpoint, model__layers__1__mlp__gate__e_score_correction_bias=zeros)
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate_from(checkpoint.directory, checkpoint.prompts, steps=0), checkpoint, checkpoint.prompts)
