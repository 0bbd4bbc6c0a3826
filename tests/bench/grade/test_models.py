"""Whole models: the honest pass, and what is wrong with how their parts are joined is found."""

import copy
import importlib
from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

import pytest
import torch
from models_by_hand import model
from suite import exhaustive
from torch import nn

from fastkernels.bench.grade import (
    CallOutcome,
    Draw,
    Judge,
    check_task,
    clear_choices,
    make_inputs,
    merge,
    plan_draws,
    randomise_weights,
)
from fastkernels.bench.grade.batch import last_tokens
from fastkernels.bench.grade.effects import copies
from fastkernels.bench.grade.noise import seeded
from fastkernels.bench.grade.oracle import Oracle
from fastkernels.bench.grade.request import Request
from fastkernels.bench.grade.routed import CORRECTION
from fastkernels.bench.grade.weights import BANNED
from fastkernels.bench.isolate.build import build
from fastkernels.results import Verdict
from fastkernels.runtime.forward_context import get_forward_context
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.parallel import MirroredRank, set_tp_group
from fastkernels.runtime.weights import finish_weights

CPU = torch.device("cpu")
CLEAR = 0.5
"""Logits between the last expert chosen and the first that is not; rounding moves a bf16 router's by up to 0.03."""


def built(scenario):
    module = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
    found = build(getattr(module, scenario.class_name), scenario, CPU)
    randomise_weights(found, 7)
    clear_choices(found, scenario, 8)
    finish_weights(found)
    return found


def grade(scenario, change: Callable[[nn.Module], None], seed=5):
    """Judge every planned draw on a copy of the baseline that `change` has altered."""
    with set_tp_group(MirroredRank(scenario.rank, scenario.tp)):
        module = built(scenario)
        assert check_task(module, scenario) is None
        candidate, judge, found = copy.deepcopy(module), Judge(module, scenario), []
        change(candidate)
        for draw in plan_draws(scenario, seed, "cpu"):
            before = make_inputs(scenario, draw, CPU, module)
            after = copies(before)
            with torch.inference_mode():
                outputs = invoke(candidate, after)
            found.append(judge.judge(before, CallOutcome(outputs, after), draw))
    return merge(found)


def forward(module: nn.Module, function: Callable[..., Any], name: str = "forward") -> None:
    """Have `function(original method, *args)` called in place of the module's own."""
    original = getattr(module, name)
    setattr(module, name, MethodType(lambda self, *args, **kwargs: function(original, *args, **kwargs), module))


def nothing(module):
    """The baseline itself."""


def in_float32(module):
    """Honest: products and norms unrounded within each layer."""
    for layer in module.model.layers:
        wide = copy.deepcopy(layer).float()

        def call(_, wide=wide, **arguments):
            outputs = wide(**{name: x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
                              for name, x in arguments.items()})
            return tuple(x.bfloat16() for x in outputs)

        forward(layer, call)


def no_residual(module):
    """What the layers before have added is lost on the way into the last one."""
    forward(module.model.layers[-1], lambda original, positions, hidden_states, residual: original(
        positions=positions, hidden_states=hidden_states, residual=torch.zeros_like(residual)))  # fmt: skip


def no_last_norm(module):
    forward(module.model.norm, lambda _, x, residual: (x + residual, residual))


def no_last_sum(module):
    """The last norm forgets what the last MLP has added."""
    forward(module.model.norm, lambda original, x, residual: original(torch.zeros_like(x), residual))


def positions_off_by_one(module):
    forward(module.model, lambda original, ids, positions, *rest: original(ids, positions + 1, *rest))


def positions_wrong_in_the_last_layer(module):
    forward(module.model.layers[-1], lambda original, positions, **rest: original(positions=positions + 1, **rest))


def first_layer_skipped(module):
    forward(module.model.layers[0], lambda _, positions, hidden_states, residual: (
        torch.zeros_like(hidden_states), hidden_states))  # fmt: skip


def last_layer_skipped(module):
    forward(module.model.layers[-1], lambda _, positions, hidden_states, residual: (hidden_states, residual))


def layers_in_another_order(module):
    first, last = module.model.layers[0], module.model.layers[-1]
    weights, others = dict(first.named_parameters()), dict(last.named_parameters())
    for name, weight in weights.items():
        if name in others:
            weight.data, others[name].data = others[name].data, weight.data


def logits_of_other_rows(module):
    forward(module, lambda original, hidden: original(hidden.roll(1, 0)), "compute_logits")


def logits_of_the_last_row(module):
    forward(module, lambda original, hidden: original(hidden[-1:]).expand(len(hidden), -1).clone(), "compute_logits")


def logits_scaled(module):
    forward(module, lambda original, hidden: original(hidden) * 1.1, "compute_logits")


def logits_of_one_rank(module):
    """The parts of the other ranks are not gathered."""
    module.tp_group.all_gather = lambda x: torch.cat([x, torch.zeros_like(x)], dim=-1)


def embedding_doubled(module):
    forward(module.model, lambda original, ids: original(ids) * 2, "embed_input_ids")


def ids_off_by_one(module):
    forward(module.model, lambda original, ids: original((ids - 1).clamp(min=0)), "embed_input_ids")


def store_of(layer):
    return next(part for name, part in layer.named_modules() if name.endswith(("store_kvcache", "store_mla_cache")))


def last_cache_not_written(module):
    forward(store_of(module.model.layers[-1]), lambda original, *args: None)


def every_layer_takes_the_first_cache(module):
    """As where a cache is asked for under a wrong name."""

    def call(original, *args, **kwargs):
        context = get_forward_context()
        first = next(iter(context.kv_caches.values()))
        before = dict(context.kv_caches)
        context.kv_caches.update(dict.fromkeys(before, first))
        try:
            return original(*args, **kwargs)
        finally:
            context.kv_caches.update(before)

    forward(module.model, call)


def window_ignored(module):
    for part in module.modules():
        if getattr(part, "sliding_window", None):
            part.sliding_window = None


def window_everywhere(module):
    window = next(part.sliding_window for part in module.modules() if getattr(part, "sliding_window", None))
    for part in module.modules():
        if hasattr(part, "sliding_window"):
            part.sliding_window = window


def an_expert_less(module):
    for part in module.modules():
        if hasattr(part, "router") and hasattr(part, "moe_sum"):
            forward(part.moe_sum, lambda original, x: original(x[:, :-1].contiguous()))


def correction_bias_ignored(module):
    """Experts are chosen by their scores alone."""
    for name, parameter in module.named_parameters():
        if name.endswith(CORRECTION):
            parameter.data.zero_()


def shared_experts_left_out(module):
    for part in module.modules():
        if getattr(part, "shared_experts", None) is not None:
            forward(part.shared_experts, lambda original, x: torch.zeros_like(x))


def sum_over_ranks_left_out(module):
    """Of the last layer's MLP."""
    for part in module.model.layers[-1].mlp.modules():
        if hasattr(part, "all_reduce"):
            part.all_reduce = nn.Identity()


def lookup_not_summed(module):
    module.model.embed_tokens.all_reduce = nn.Identity()


HONEST = [("llama", {}), ("llama", {"tp": 2}), ("llama", {"variant": "mixed"}), ("llama", {"prefill": True}),
          ("gemma3", {}), ("gemma3", {"variant": "mixed"}), ("mixtral", {"tp": 2}), ("mixtral", {"prefill": True}),
          ("deepseek", {}), ("deepseek", {"tp": 2, "variant": "mixed"})]  # fmt: skip
ROUNDED_LESS = [("llama", {"prefill": True}), ("gemma3", {}),
                *exhaustive(*((name, own) for name, own in HONEST if name != "deepseek"))]  # fmt: skip
WRONG = [
    ("llama", {}, no_residual), ("llama", {}, no_last_norm), ("llama", {}, positions_off_by_one),
    ("gemma3", {}, positions_wrong_in_the_last_layer), ("llama", {}, first_layer_skipped),
    ("deepseek", {"tp": 2}, last_layer_skipped), ("llama", {}, logits_of_other_rows),
    ("llama", {"variant": "mixed"}, logits_of_the_last_row), ("llama", {"tp": 2}, logits_of_one_rank),
    ("llama", {}, last_cache_not_written), ("deepseek", {}, last_cache_not_written),
    ("gemma3", {}, window_ignored), ("mixtral", {}, an_expert_less),
    ("deepseek", {"tp": 2}, correction_bias_ignored), ("llama", {"tp": 2}, lookup_not_summed),
    *exhaustive(
        ("llama", {"prefill": True}, no_last_sum), ("llama", {"prefill": True}, last_layer_skipped),
        ("llama", {}, layers_in_another_order), ("llama", {}, logits_scaled), ("llama", {}, embedding_doubled),
        ("mixtral", {}, ids_off_by_one), ("llama", {"variant": "mixed"}, every_layer_takes_the_first_cache),
        ("gemma3", {"prefill": True, "tokens": 40}, window_everywhere), ("deepseek", {}, shared_experts_left_out),
        ("deepseek", {"tp": 2}, sum_over_ranks_left_out),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "own"), HONEST)
def test_a_self_test_passes(name, own):
    finding = grade(model(name, **own), nothing)
    assert finding.verdict is Verdict.PASSED, finding.message


@pytest.mark.parametrize(("name", "own"), ROUNDED_LESS)
def test_an_honest_model_passes(name, own):
    finding = grade(model(name, **own), in_float32)
    assert finding.verdict is Verdict.PASSED, finding.message


@pytest.mark.parametrize(("name", "own", "change"), WRONG)
def test_a_wrong_model_is_refused(name, own, change):
    finding = grade(model(name, **own), change)
    assert finding.verdict not in (Verdict.PASSED, Verdict.TASK_INVALID), finding.message


def allowed(router, logits):
    """Logits [T, E] without those of experts that its bias keeps out; those are high and must not be chosen."""
    bias = getattr(router, CORRECTION, None)
    if bias is None:
        return logits
    assert clear_by_scores(logits, bias)
    return logits.masked_fill(bias < -BANNED / 2, -torch.inf)


def clear_by_scores(logits, bias):
    """Whether 2 of 4 groups, and then 4 of their 8 experts, are ahead by 0.2 in scores with the bias added."""
    by_group = (torch.sigmoid(logits) + bias).view(-1, 4, 4)
    of_group = by_group.topk(2, dim=2).values.sum(dim=2).sort(dim=1, descending=True)
    best = by_group.gather(1, of_group.indices[:, :2, None].expand(-1, -1, 4)).flatten(1)
    ordered = best.sort(dim=1, descending=True).values
    margins = torch.stack((of_group.values[:, 1] - of_group.values[:, 2], ordered[:, 3] - ordered[:, 4]))
    return bool((margins > 0.2).all())


@pytest.mark.parametrize("kind", ["normal", "moderate", "zeros", "ties", "mixed-mild"])
@pytest.mark.parametrize(("name", "tp"), [("mixtral", 1), ("mixtral", 2), ("deepseek", 2)])
def test_every_router_chooses_clearly(name, tp, kind):
    scenario = model(name, tp, prefill=True, tokens=40)
    top_k = next(spec.args["top_k"] for spec in scenario.inputs if spec.values == "routed_ids")
    logits = []
    with set_tp_group(MirroredRank(scenario.rank, scenario.tp)), torch.inference_mode():
        module = built(scenario)
        routers = [part for part_name, part in module.named_modules() if part_name.endswith(".gate")]
        for router in routers:
            router.register_forward_hook(lambda m, inputs, out: logits.append(allowed(m, out[0].float())))
        for seed in range(3):
            invoke(module, make_inputs(scenario, Draw("draw", 40, seed, kind), CPU, module))
    assert len(logits) == 3 * len(routers)
    assert routers
    ordered = torch.cat(logits).sort(dim=1, descending=True).values
    assert (ordered[:, top_k - 1] - ordered[:, top_k]).min() > CLEAR


@pytest.mark.parametrize("low", [[], [3, 8]])
def test_a_correction_bias_keeps_experts_out_and_the_choice_clear(low):
    """Those that it keeps out have high scores, so that who ignores it takes them; the rest is chosen by the scores."""
    scenario = model("deepseek", prefill=True, tokens=40)
    module, logits = built(scenario), []
    gate = module.model.layers[-1].mlp.gate
    gate.e_score_correction_bias.data.uniform_(-0.08, 0.08)
    gate.e_score_correction_bias.data[low] -= 1.0
    clear_choices(module, scenario, 9)
    gate.register_forward_hook(lambda m, inputs, out: logits.append(out[0].float()))
    with torch.inference_mode():
        invoke(module, make_inputs(scenario, Draw("draw", 40, 1, "normal"), CPU, module))
    assert clear_by_scores(torch.cat(logits), gate.e_score_correction_bias)
    assert bool((torch.sigmoid(torch.cat(logits))[:, low] > 0.5).all())


def test_without_clear_rows_no_choice_is():
    """The rows of the embedding are what makes it clear: with random ones experts are near to each other."""
    scenario = model("mixtral", prefill=True, tokens=40)
    module = built(scenario)
    randomise_weights(module.model.embed_tokens, 3)
    logits = []
    module.model.layers[0].mlp.gate.register_forward_hook(lambda m, inputs, out: logits.append(out[0].float()))
    with torch.inference_mode():
        invoke(module, make_inputs(scenario, Draw("draw", 40, 1, "normal"), CPU, module))
    ordered = torch.cat(logits).sort(dim=1, descending=True).values
    assert (ordered[:, 1] - ordered[:, 2]).min() < CLEAR


@pytest.mark.parametrize(("variant", "sequences"), [("", 6), ("mixed", 9)])
def test_logits_are_asked_of_each_sequences_last_token(variant, sequences):
    scenario = model("llama", variant=variant)
    inputs = make_inputs(scenario, Draw("draw", 6, 1, "normal"), CPU)
    rows, positions = inputs["logits_indices"].tolist(), inputs["positions"].tolist()
    assert rows == [*range(sequences - bool(variant)), *([len(positions) - 1] if variant else [])]


def test_a_prompt_without_tokens_has_no_last_one():
    ends = {"context.cu_seqlens_q": torch.tensor([0, 3, 3, 5]), "context.seqused_k": torch.tensor([4, 0])}
    request = Request(name="logits_indices", shape=(5,), dtype=torch.int64, args={}, phase="prefill", hard="normal",
                      generator=seeded(CPU, 1), drawn=ends, sources={})  # fmt: skip
    assert last_tokens(request).tolist() == [0, 1, 4, 6]


@pytest.mark.parametrize("tp", [1, 2])
def test_ids_of_a_model_with_experts_are_this_ranks(tp):
    scenario = model("mixtral", tp)
    ids = torch.cat([make_inputs(scenario, Draw("draw", 40, seed, "normal"), CPU)["input_ids"] for seed in range(20)])
    first, end = (160, 300) if tp == 2 else (0, 300)
    assert (int(ids.min()), int(ids.max())) == (first, end - 1)


def test_a_name_that_no_weight_has_is_an_error():
    scenario = model("mixtral")
    spec = next(spec for spec in scenario.inputs if spec.values == "routed_ids")
    wrong = replace(spec, args={**spec.args, "gates": "model.layers.*.mlp.gates.weight"})
    others = tuple(wrong if other is spec else other for other in scenario.inputs)
    with pytest.raises(ValueError, match=r"input_ids: the module has no weight 'model.layers.\*.mlp.gates.weight'"):
        built(replace(scenario, inputs=others))


@pytest.mark.parametrize(("name", "variant"), [("llama", ""), ("gemma3", "mixed"), ("deepseek", "")])
def test_an_oracle_by_parts_finds_the_same_and_leaves_the_weights(name, variant):
    scenario = model(name, variant=variant)
    module = built(scenario)
    inputs = make_inputs(scenario, Draw("draw", 6, 1, "normal"), CPU, module)
    before = {key: tensor.clone() for key, tensor in (*module.named_parameters(), *module.named_buffers())}
    whole, parts = Oracle(module, inputs), Oracle(module, inputs, parts_bytes=0)
    for (outputs, after), (own, own_after) in ((whole(inputs), parts(inputs)), (whole(inputs), parts(inputs))):
        assert all(torch.equal(a, b) for a, b in zip(outputs, own, strict=True))
        assert {a.dtype for a in own} == {torch.float32}
        assert all(torch.equal(after[key], own_after[key]) for key in after if isinstance(after[key], torch.Tensor))
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
    shared = dict(parts._module.named_parameters())
    assert all(shared[key].data_ptr() == weight.data_ptr() for key, weight in module.named_parameters())
