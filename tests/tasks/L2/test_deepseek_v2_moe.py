"""deepseek_v2_moe against transformers' DeepSeek-V2 and -V3 blocks; its shares at TP."""

from types import SimpleNamespace

import pytest
import torch

from fastkernels.errors import ModelError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import Stacked, load_weights
from fastkernels.tasks.baseline.L2.deepseek_v2_moe import DeepseekV2MoE
from fastkernels.tasks.baseline.L2.fused_moe import FusedMoE

SIZES = {"hidden_size": 32, "moe_intermediate_size": 24, "n_routed_experts": 16, "n_shared_experts": 2,
         "num_experts_per_tok": 4, "num_attention_heads": 4}  # fmt: skip
GROUPS = {"n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}
KINDS = {
    "v2-greedy": ("v2", {"topk_method": "greedy", "routed_scaling_factor": 1.0, "norm_topk_prob": False}),
    "v2-grouped": ("v2", {"topk_method": "group_limited_greedy", "norm_topk_prob": False} | GROUPS),
    "v3": ("v3", {"norm_topk_prob": True} | GROUPS),
    "v3-unnormalised": ("v3", {"norm_topk_prob": False} | GROUPS),
}


def reference(kind):
    """transformers' block with random weights, its tensors as a checkpoint holds them, and its config."""
    from transformers import DeepseekV2Config, DeepseekV3Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    version, arguments = KINDS[kind]
    config = (DeepseekV2Config if version == "v2" else DeepseekV3Config)(**SIZES | arguments)
    block = (DeepseekV2Moe if version == "v2" else DeepseekV3MoE)(config).requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
    tensors = {name: tensor for name, tensor in block.state_dict().items() if not name.startswith("experts.")}
    if version == "v3":
        block.gate.e_score_correction_bias.normal_().mul_(0.2)
    for e in range(16):
        gate, up = block.experts.gate_up_proj[e].chunk(2)
        tensors |= {f"experts.{e}.gate_proj.weight": gate, f"experts.{e}.up_proj.weight": up,
                    f"experts.{e}.down_proj.weight": block.experts.down_proj[e]}  # fmt: skip
    return block, tensors, config


def built(tensors, config):
    module = DeepseekV2MoE(config, dtype=torch.float32)
    experts = FusedMoE.make_expert_params_mapping("gate_proj", "down_proj", "up_proj", 16)
    load_weights(
        module, tensors.items(), (*experts, Stacked("gate_up_proj", {"gate_proj": (0,), "up_proj": (1,)}))
    )
    return module.requires_grad_(False)


def difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("tokens", [1, 3, 17, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_is_transformers_block(kind, tokens):
    block, tensors, config = reference(kind)
    x = torch.randn(tokens, 32)
    want = block(x[None])[0]
    module = built(tensors, config)
    assert ("gate.e_score_correction_bias" in module.state_dict()) == kind.startswith("v3")
    assert difference(module(x), want) < 1e-5


def test_the_model_cards_own_config_is_read_alike():
    """DeepSeek's config.json names what transformers leaves out."""
    block, tensors, config = reference("v3")
    plain = {name: getattr(config, name) for name in (*SIZES, *GROUPS, "norm_topk_prob", "hidden_act")}
    own = SimpleNamespace(**plain, topk_method="noaux_tc", scoring_func="sigmoid")
    x = torch.randn(17, 32)
    assert difference(built(tensors, own)(x), block(x[None])[0]) < 1e-5


@pytest.mark.parametrize("change", ["bias", "scale", "shared", "groups"])
def test_what_differs_is_found(change):
    block, tensors, config = reference("v3")
    x, changed = torch.randn(50, 32), dict(tensors)
    if change == "bias":
        changed["gate.e_score_correction_bias"] = -tensors["gate.e_score_correction_bias"]
    elif change == "scale":
        config.routed_scaling_factor = 1.0
    elif change == "shared":
        changed["shared_experts.down_proj.weight"] = torch.zeros(32, 48)
    else:
        config.topk_group = 4
    assert difference(built(changed, config)(x), block(x[None])[0]) > 1e-2


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("kind", ["v2-grouped", "v3"])
def test_shares_of_the_ranks_sum_to_the_whole(kind, size):
    block, tensors, config = reference(kind)
    x, shares = torch.randn(17, 32), []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            shares.append(built(tensors, config)(x))
    assert difference(sum(shares), block(x[None])[0]) < 1e-5


def test_no_shared_experts():
    config = SimpleNamespace(**SIZES | {"n_shared_experts": None, "hidden_act": "silu", "topk_method": "greedy"})
    module = DeepseekV2MoE(config, dtype=torch.float32).requires_grad_(False)
    x = torch.randn(3, 32)
    assert torch.equal(module(x), module.experts(x, module.gate(x)[0]))


def test_an_unknown_method_is_an_error():
    _, _, config = reference("v3")
    config.topk_method = "noaux"
    with pytest.raises(ModelError, match="topk_method: 'noaux' is not one of greedy, group_limited_greedy, noaux_tc"):
        DeepseekV2MoE(config)
