"""deepseek_v2_decoder_layer against transformers' layers of DeepSeek-V2 and -V3, dense and with experts."""

from types import SimpleNamespace

import pytest
import torch
from models.parity import make_tiny
from models.test_deepseek_v2_parity import LATENT, YARN
from reference_blocks import GATE_UP, flow, in_context
from safetensors.torch import load_file

from fastkernels.runtime.weights import finish_weights, load_weights
from fastkernels.tasks.baseline.L2.deepseek_v2_moe import DeepseekV2MoE
from fastkernels.tasks.baseline.L2.fused_moe import FusedMoE
from fastkernels.tasks.baseline.L2.llama_mlp import LlamaMLP
from fastkernels.tasks.baseline.L3.deepseek_v2_decoder_layer import DeepseekV2DecoderLayer, has_experts
from fastkernels.tasks.baseline.L4.deepseek_v2 import QKV_A

STACKED = (QKV_A, GATE_UP, *FusedMoE.make_expert_params_mapping("gate_proj", "down_proj", "up_proj", 16))
GROUPS = {"n_group": 4, "topk_group": 2, "q_lora_rank": 24, "routed_scaling_factor": 2.5,
          "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.707}}  # fmt: skip
KINDS = {
    "v2": LATENT | GROUPS | {"topk_method": "group_limited_greedy"},
    "v2-lite": LATENT | {"q_lora_rank": None},
    "v3": LATENT | GROUPS | {"model_type": "deepseek_v3"},
}


def check_layer(tiny, layer, config):
    """Assert that our layer is transformers', as the first of a model and after others; returns ours."""
    name = f"model.layers.{layer}"
    x, expected = flow(tiny.reference, name)
    tensors = load_file(tiny.directory / "model.safetensors")
    own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    block = DeepseekV2DecoderLayer(config, prefix=name).requires_grad_(False)
    load_weights(block, own.items(), STACKED)
    finish_weights(block)
    for residual, rest in ((None, x), (x * 0.25, x * 0.75)):
        hidden, sum_so_far = in_context(block, lambda b, h=rest, r=residual: block(b.positions, h.clone(), r))
        torch.testing.assert_close(hidden + sum_so_far, expected, atol=2e-5, rtol=1e-5)
    return block


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_layers(kind, tmp_path):
    tiny = make_tiny(KINDS[kind], tmp_path)
    assert isinstance(check_layer(tiny, 0, tiny.reference.config).mlp, LlamaMLP)
    assert isinstance(check_layer(tiny, 1, tiny.reference.config).mlp, DeepseekV2MoE)


def test_another_scale_of_the_experts_is_found(tmp_path):
    tiny = make_tiny(KINDS["v3"], tmp_path)
    tiny.reference.config.routed_scaling_factor = 1.0
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_layer(tiny, 1, tiny.reference.config)


def test_which_layers_have_experts():
    config = SimpleNamespace(n_routed_experts=8, first_k_dense_replace=3, moe_layer_freq=2)
    assert [has_experts(config, layer) for layer in range(7)] == [False, False, False, False, True, False, True]
    assert not has_experts(SimpleNamespace(first_k_dense_replace=0), 5)
