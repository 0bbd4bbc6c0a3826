"""mixtral_moe against transformers' block; its shares at TP."""

import pytest
import torch

from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import load_weights
from fastkernels.tasks.baseline.L2.fused_moe import FusedMoE
from fastkernels.tasks.baseline.L2.mixtral_moe import MixtralMoE

HIDDEN, INNER = 32, 48


def reference(experts, top_k):
    """transformers' block with random weights, and its tensors as a checkpoint holds them."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(hidden_size=HIDDEN, intermediate_size=INNER, num_local_experts=experts,
                           num_experts_per_tok=top_k)  # fmt: skip
    block = MixtralSparseMoeBlock(config).requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
    tensors = {"gate.weight": block.gate.weight}
    for e in range(experts):
        gate, up = block.experts.gate_up_proj[e].chunk(2)
        tensors |= {f"experts.{e}.w1.weight": gate, f"experts.{e}.w3.weight": up,
                    f"experts.{e}.w2.weight": block.experts.down_proj[e]}  # fmt: skip
    return block, tensors


def built(tensors, experts, top_k):
    module = MixtralMoE(experts, top_k, HIDDEN, INNER, torch.float32)
    stacks = FusedMoE.make_expert_params_mapping("w1", "w2", "w3", experts)
    names = load_weights(module, tensors.items(), stacks)
    assert names == {"gate.weight", "experts.w13.weight", "experts.w2.weight"}
    return module.requires_grad_(False)


def difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("tokens", [1, 3, 17, 100])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (5, 3)])
def test_is_transformers_block(experts, top_k, tokens):
    block, tensors = reference(experts, top_k)
    x = torch.randn(tokens, HIDDEN)
    assert difference(built(tensors, experts, top_k)(x), block(x[None])[0]) < 1e-5


def test_broken_weights_are_found():
    block, tensors = reference(8, 2)
    x = torch.randn(17, HIDDEN)
    swapped = tensors | {"experts.3.w1.weight": tensors["experts.4.w1.weight"]}
    assert difference(built(swapped, 8, 2)(x), block(x[None])[0]) > 1e-2


@pytest.mark.parametrize("size", [2, 8])
def test_shares_of_the_ranks_sum_to_the_whole(size):
    block, tensors = reference(8, 2)
    x, shares = torch.randn(17, HIDDEN), []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            shares.append(built(tensors, 8, 2)(x))
    assert difference(sum(shares), block(x[None])[0]) < 1e-5
