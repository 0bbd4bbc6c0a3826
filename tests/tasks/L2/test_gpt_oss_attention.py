"""gpt_oss_attention against transformers' block, whole and shared out, for layers with and without a window."""

import copy

import pytest
import torch
from reference_blocks import QKV, check_attention, reference_model

from fastkernels.errors import WeightsError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import load_weights
from fastkernels.tasks.baseline.L2.gpt_oss_attention import OAIAttention

CONFIG = {"model_type": "gpt_oss", "head_dim": 32, "sliding_window": 5, "num_local_experts": 4}
PREFIX = "model.layers.{}.self_attn"


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_transformers_block(bias, layer, size):
    model = reference_model(**CONFIG, attention_bias=bias)
    check_attention(model, lambda: OAIAttention(model.config, PREFIX.format(layer)), size, layer)


@pytest.mark.parametrize("change", [{"sliding_window": 4}, {"sliding_window": 6}], ids=str)
def test_another_window_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: OAIAttention(config, PREFIX.format(0)), 1, 0)


def test_every_rank_has_the_sinks_of_its_heads():
    sinks = torch.arange(4.0)
    config = reference_model(**CONFIG, attention_bias=False).config
    for rank in range(2):
        with set_tp_group(OneRank(rank, 2)):
            block = OAIAttention(config, PREFIX.format(0), torch.bfloat16).requires_grad_(False)
        block.sinks.weight_loader(block.sinks, sinks)
        assert block.sinks.dtype == torch.bfloat16
        assert block.sinks.tolist() == [2 * rank, 2 * rank + 1]


def test_attention_uses_the_sinks_of_a_copy_in_higher_precision():
    block = copy.deepcopy(OAIAttention(reference_model(**CONFIG).config, PREFIX.format(0))).double()
    assert block.attn._sinks[0] is block.sinks
    assert block.sinks.dtype == torch.float64


def test_too_few_sinks_are_named():
    model = reference_model(**CONFIG)
    weights = model.model.layers[0].self_attn.state_dict()
    weights["sinks"] = weights["sinks"][:2]
    block = OAIAttention(model.config, PREFIX.format(0))
    with pytest.raises(WeightsError, match=r"'sinks': shape \[2\] found, \[4\] expected"):
        load_weights(block, weights.items(), (QKV,))
