"""gpt_oss_moe against transformers' block; its shares at TP."""

import pytest
import torch

from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import load_weights
from fastkernels.tasks.baseline.L2.gpt_oss_moe import EXPERT_STACKS, MLPBlock


def reference(limit=7.0):
    """transformers' block with random weights, whose tensors have the checkpoint's names, and its config."""
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP

    config = GptOssConfig(hidden_size=32, intermediate_size=24, num_local_experts=8, num_experts_per_tok=3)
    config.swiglu_limit = limit
    block = GptOssMLP(config).requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_().mul_(0.3)
    return block, config


def built(tensors, config):
    module = MLPBlock(config, dtype=torch.float32)
    load_weights(module, tensors.items(), EXPERT_STACKS)
    return module.requires_grad_(False)


def difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("limit", [7.0, 1.0])
@pytest.mark.parametrize("tokens", [1, 3, 17, 100])
def test_is_transformers_block(tokens, limit):
    block, config = reference(limit)
    x = torch.randn(tokens, 32)
    assert difference(built(block.state_dict(), config)(x), block(x[None])[0][0]) < 1e-5


@pytest.mark.parametrize("name", ["router.bias", "experts.gate_up_proj_bias", "experts.down_proj_bias",
                                  "experts.gate_up_proj", "experts.down_proj"])  # fmt: skip
def test_another_tensor_is_found(name):
    block, config = reference()
    x = torch.randn(17, 32)
    changed = block.state_dict()
    changed[name] = changed[name].flip(-1)
    assert difference(built(changed, config)(x), block(x[None])[0][0]) > 1e-2


@pytest.mark.parametrize("size", [2, 8])
def test_shares_of_the_ranks_sum_to_the_whole(size):
    block, config = reference()
    x, shares = torch.randn(17, 32), []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            module = built(block.state_dict(), config)
            assert bool(module.experts.w2.bias.any()) == (rank == 0)
            shares.append(module(x))
    assert difference(sum(shares), block(x[None])[0][0]) < 1e-5
