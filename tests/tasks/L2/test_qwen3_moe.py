"""qwen3_moe against transformers' block; its shares at TP."""

import pytest
import torch

from fastkernels.errors import ModelError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import load_weights
from fastkernels.tasks.baseline.L2.fused_moe import FusedMoE
from fastkernels.tasks.baseline.L2.qwen3_moe import Qwen3MoeSparseMoeBlock


def reference(experts=16, top_k=4, normalised=True):
    """transformers' block with random weights, its tensors as a checkpoint holds them, and its config."""
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock as Reference

    config = Qwen3MoeConfig(hidden_size=32, moe_intermediate_size=24, num_experts=experts, num_experts_per_tok=top_k,
                            norm_topk_prob=normalised)  # fmt: skip
    block = Reference(config).requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
    tensors = {"gate.weight": block.gate.weight}
    for e in range(experts):
        gate, up = block.experts.gate_up_proj[e].chunk(2)
        tensors |= {f"experts.{e}.gate_proj.weight": gate, f"experts.{e}.up_proj.weight": up,
                    f"experts.{e}.down_proj.weight": block.experts.down_proj[e]}  # fmt: skip
    return block, tensors, config


def built(tensors, config):
    module = Qwen3MoeSparseMoeBlock(config, dtype=torch.float32)
    stacks = FusedMoE.make_expert_params_mapping("gate_proj", "down_proj", "up_proj", config.num_experts)
    load_weights(module, tensors.items(), stacks)
    return module.requires_grad_(False)


def difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("tokens", [1, 3, 17, 100])
@pytest.mark.parametrize("normalised", [True, False])
def test_is_transformers_block(normalised, tokens):
    block, tensors, config = reference(normalised=normalised)
    x = torch.randn(tokens, 32)
    assert difference(built(tensors, config)(x), block(x[None])[0]) < 1e-5


def test_another_normalisation_or_broken_weights_are_found():
    block, tensors, config = reference()
    x = torch.randn(17, 32)
    swapped = tensors | {"experts.3.up_proj.weight": tensors["experts.4.up_proj.weight"]}
    assert difference(built(swapped, config)(x), block(x[None])[0]) > 1e-2
    config.norm_topk_prob = False
    assert difference(built(tensors, config)(x), block(x[None])[0]) > 1e-2


@pytest.mark.parametrize("size", [2, 4])
def test_shares_of_the_ranks_sum_to_the_whole(size):
    block, tensors, config = reference()
    x, shares = torch.randn(17, 32), []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            shares.append(built(tensors, config)(x))
    assert difference(sum(shares), block(x[None])[0]) < 1e-5


def test_another_activation_is_an_error():
    _, _, config = reference()
    config.hidden_act = "gelu"
    with pytest.raises(ModelError, match="hidden_act: 'gelu' "):
        Qwen3MoeSparseMoeBlock(config)
