"""qwen3_moe_decoder_layer against transformers' layer."""

import pytest
import torch
from reference_blocks import GATE_UP, QKV, flow, in_context, reference_model

from fastkernels.runtime.weights import load_weights
from fastkernels.tasks.baseline.L2.fused_moe import FusedMoE
from fastkernels.tasks.baseline.L3.qwen3_moe_decoder_layer import Qwen3MoeDecoderLayer

NAMES = ("gate_proj", "down_proj", "up_proj")
"""Gate, down and up projection of an expert."""
MOE = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 48,
       "head_dim": 32}  # fmt: skip


def by_expert(tensors):
    """The checkpoint's tensors of a layer, from those of transformers' modules."""
    both, down = tensors.pop("mlp.experts.gate_up_proj"), tensors.pop("mlp.experts.down_proj")
    for e, (gate_up, out) in enumerate(zip(both, down, strict=True)):
        parts = zip(NAMES, (gate_up.chunk(2)[0], out, gate_up.chunk(2)[1]), strict=True)
        tensors |= {f"mlp.experts.{e}.{name}.weight": part for name, part in parts}
    return tensors


def check_layer(model, layer):
    """Assert that our layer is transformers', as the first of a model and after others."""
    x, expected = flow(model, f"model.layers.{layer}")
    tensors = model.get_submodule(f"model.layers.{layer}").state_dict()
    tensors = by_expert(tensors) if "mlp.experts.down_proj" in tensors else tensors
    block = Qwen3MoeDecoderLayer(model.config, prefix=f"model.layers.{layer}").requires_grad_(False)
    load_weights(block, tensors.items(), (QKV, GATE_UP, *FusedMoE.make_expert_params_mapping(*NAMES, 8)))
    for residual, rest in ((None, x), (x * 0.25, x * 0.75)):
        hidden, sum_so_far = in_context(block, lambda b, h=rest, r=residual: block(b.positions, h.clone(), r))
        torch.testing.assert_close(hidden + sum_so_far, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_transformers_layer(normalised):
    check_layer(reference_model(**MOE, norm_topk_prob=normalised), 1)


@pytest.mark.parametrize("dense", [{"mlp_only_layers": [1]}, {"decoder_sparse_step": 3}], ids=str)
def test_a_layer_without_experts(dense):
    model = reference_model(**MOE, norm_topk_prob=True, num_hidden_layers=3, **dense)
    assert not any("experts" in name for name in model.model.layers[1].state_dict())
    check_layer(model, 1)


def test_another_normalisation_is_found():
    model = reference_model(**MOE, norm_topk_prob=True)
    model.config.norm_topk_prob = False
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_layer(model, 1)
