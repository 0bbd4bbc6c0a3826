"""In layers with experts the router's choice is clear in every draw, whatever attention adds to what it sees."""

import importlib

import pytest
import torch

from fastkernels.bench.grade import make_inputs, randomise_weights
from fastkernels.bench.grade.draws import Draw
from fastkernels.bench.grade.oracle import native
from fastkernels.bench.isolate.build import build
from fastkernels.manifest import Selection, load_manifest
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.parallel import MirroredRank, set_tp_group
from fastkernels.runtime.weights import finish_weights
from fastkernels.tasks.baseline.L2.fused_moe import FusedMoE

CPU = torch.device("cpu")
CLEAR = 0.5
"""Logits between the last expert chosen and the first that is not; rounding moves a bf16 router's by up to 0.03."""
MOST = 8.0
"""Logits of at most this size: of 32 and more bf16 keeps quarters alone, which moves the chosen experts' weights."""
LAYERS = {
    "qwen3_moe_decoder_layer[qwen3-30b-a3b-tp8-s2048]": "mlp.gate",
    "qwen3_moe_decoder_layer[qwen3-30b-a3b-tp1-s32-first]": "mlp.gate",
    "gpt_oss_decoder_layer[gpt-oss-20b-tp8-s2048-window]": "mlp.router",
    "deepseek_v2_decoder_layer[deepseek-v2-lite-tp8-s2048-moe]": "mlp.gate",
    "mixtral_decoder_layer[mixtral-8x7b-tp8-s2048]": "mlp.gate",
}  # fmt: skip


class Nothing(FusedMoE):
    """Stands in for the experts, which are not asked."""

    def __init__(self, num_experts, top_k, *args, **kwargs):
        torch.nn.Module.__init__(self)

    def forward(self, x, router_logits, *others):
        return x


@pytest.fixture(scope="module")
def scenarios():
    """The manifest's decoder layers by address."""
    return {scenario.id: scenario for scenario in load_manifest().scenarios(Selection(levels=(3,)))}


@pytest.fixture(scope="module", params=LAYERS)
def routed(request, scenarios):
    """(scenario, layer, its router's module): built once for all kinds of draws, as the largest takes a second."""
    scenario = scenarios[request.param]
    module = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
    with pytest.MonkeyPatch.context() as patch, set_tp_group(MirroredRank(scenario.rank, scenario.tp)):
        for block in ("qwen3_moe", "gpt_oss_moe", "deepseek_v2_moe", "mixtral_moe"):
            patch.setattr(importlib.import_module(f"fastkernels.tasks.baseline.L2.{block}"), "FusedMoE", Nothing)
        layer = build(getattr(module, scenario.class_name), scenario, CPU)
        randomise_weights(layer, 3)
        finish_weights(layer)
    return scenario, layer, layer.get_submodule(LAYERS[request.param])


@pytest.mark.parametrize("kind", ["normal", "tiny", "zeros", "mixed-mild", "moderate"])
def test_the_last_chosen_expert_leads_by_more_than_rounding_of_small_logits(kind, routed):
    scenario, layer, router = routed
    top_k = next(spec.args["top_k"] for spec in scenario.inputs if "top_k" in spec.args)
    logits = []
    hook = router.register_forward_hook(lambda m, inputs, out: logits.append(out[0]))
    with set_tp_group(MirroredRank(scenario.rank, scenario.tp)):
        for seed in range(8):
            invoke(native(layer), make_inputs(scenario, Draw("draw", 37, seed, kind), CPU, layer))
    hook.remove()
    ordered = torch.cat(logits).float().sort(dim=1, descending=True).values
    assert ordered.shape[0] == 8 * 37
    assert (ordered[:, top_k - 1] - ordered[:, top_k]).min() > CLEAR
    assert ordered.abs().max() < MOST
