"""Blocks and layers: honest rewrites pass whatever they round, wrong ones fail, at sizes near to real ones."""

import copy
import importlib
from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

import pytest
import torch
from blocks_by_hand import (
    CONFIG,
    block,
    deepseek_moe,
    llama_attention,
    llama_layer,
    llama_mlp,
    mixtral_layer,
    mixtral_moe,
)
from torch import nn
from torch.nn import functional as F

from fastkernels.bench.grade import CallOutcome, Judge, check_task, make_inputs, merge, plan_draws, randomise_weights
from fastkernels.bench.grade.effects import copies
from fastkernels.bench.isolate.build import init_arguments
from fastkernels.manifest import InputSpec
from fastkernels.results import Verdict
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.weights import finish_weights
from fastkernels.tasks.baseline.L2.parallel_linear import RowParallelLinear

CPU = torch.device("cpu")
Change = Callable[[nn.Module], None]


def build(scenario):
    module = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
    built = getattr(module, scenario.class_name)(**init_arguments(scenario)).eval()
    randomise_weights(built, 7)
    finish_weights(built)
    return built


def grade(scenario, change: Change, seed=5):
    """Judge every planned draw on a copy of the baseline that `change` has altered."""
    module = build(scenario)
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


def forward(module: nn.Module, function: Callable[..., Any]) -> None:
    """Have `function(original forward, *args)` called in place of the module's forward."""
    original = module.forward
    module.forward = MethodType(lambda self, *args, **kwargs: function(original, *args, **kwargs), module)


def nothing(module):
    """The baseline itself."""


# Honest: other roundings than the baseline's.


def in_float32(module):
    """Everything unrounded but the caches and the result."""
    wide = copy.deepcopy(module).float()

    def call(_, *args, **kwargs):
        outputs = wide(*(widen(a) for a in args), **{name: widen(a) for name, a in kwargs.items()})
        back = tuple(o.bfloat16() for o in outputs) if isinstance(outputs, tuple) else outputs.bfloat16()
        return back

    forward(module, call)


def widen(value):
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def rounded_products(module):
    """Rotated heads, activations and normalised rows rounded once more, as unfused kernels do."""
    for part in module.modules():
        if type(part).__name__ == "SiluAndMul":
            forward(part, lambda _, x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1])
        elif type(part).__name__ == "RMSNorm":
            forward(part, lambda original, x, residual=None, part=part: unfused_norm(part, x, residual))


def unfused_norm(norm, x, residual):
    """The sum is rounded before it is normalised, and the normalised row before the weight, as PyTorch's own would."""
    total = x if residual is None else x + residual
    scale = torch.rsqrt(total.float().square().mean(-1, keepdim=True) + norm.variance_epsilon)
    y = (total.float() * scale).to(x.dtype) * norm.weight
    return y if residual is None else (y, total)


def rotated_in_bf16(module):
    """Products of heads with cosines and sines rounded before they are added, as Hugging Face and vLLM do."""
    for part in module.modules():
        if type(part).__name__ == "RotaryEmbedding":
            forward(part, lambda _, positions, q, k, part=part: tuple(
                rotated(x, part.cos_sin_cache[positions].unsqueeze(1), part.head_size) for x in (q, k)))


def rotated(x, table, head_size):
    first, second = x.view(x.shape[0], -1, head_size).chunk(2, dim=-1)
    cos, sin = table.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).view(x.shape)


def split_products(module):
    """Each linear layer's sum in four parts, added in float32."""
    for part in module.modules():
        if "weight" in dict(part.named_parameters(recurse=False)) and part.weight.dim() == 2:
            forward(part, lambda _, x, part=part: (sum(
                F.linear(a.float(), w.float()) for a, w in zip(x.chunk(4, -1), part.weight.chunk(4, -1), strict=True)
            ).to(x.dtype), None))  # fmt: skip


# Wrong.


def attention_of(module):
    return module.self_attn if hasattr(module, "self_attn") else module


def swapped_kv_heads(module):
    block = attention_of(module)
    forward(block.attn, lambda original, q, k, v: original(q, *(
        x.view(x.shape[0], -1, block.head_dim).flip(1).reshape(x.shape) for x in (k, v))))  # fmt: skip


def no_cache_write(module):
    forward(attention_of(module).attn.store_kvcache, lambda original, *args: None)


def no_write_of_values(module):
    forward(attention_of(module).attn.store_kvcache,
            lambda original, k, v, k_cache, v_cache, slots: original(k, v, k_cache, v_cache.clone(), slots))


def positions_ignored(module):
    forward(attention_of(module).rotary_emb, lambda original, positions, q, k: original(positions * 0, q, k))


def last_position_wrong(module):
    def call(original, positions, q, k):
        positions = positions.clone()
        positions[-1] += 1
        return original(positions, q, k)

    forward(attention_of(module).rotary_emb, call)


def last_key_unseen(module):
    forward(attention_of(module).attn.decode, lambda original, q, k, v, table, used, *rest: original(
        q, k, v, table, torch.where(used > 1, used - 1, used), *rest))  # fmt: skip


def no_mask_between_prompts(module):
    def call(original, q, k, v, cu_q, cu_k, *rest):
        whole = torch.stack((cu_q[0], cu_q[-1]))
        return original(q, k, v, whole, whole, *rest)

    forward(attention_of(module).attn.prefill, call)


def scale_off(module):
    attention = attention_of(module).attn
    for part in (attention.prefill, attention.decode):
        part.scale *= 1.05


def fp8_activations(module):
    for part in module.modules():
        if "weight" in dict(part.named_parameters(recurse=False)) and part.weight.dim() == 2:
            forward(part, lambda original, x: original(x.to(torch.float8_e4m3fn).to(x.dtype)))


def one_head_silent(module):
    def call(original, *args):
        y = original(*args).clone()
        y[:, -module.head_dim:] = 0
        return y

    forward(attention_of(module).attn, call)


def no_residual(module):
    forward(module.post_attention_layernorm, lambda original, x, residual: original(x, torch.zeros_like(residual)))


def residual_of_the_input(module):
    forward(module, lambda original, positions, hidden_states, residual: (
        original(positions, hidden_states, residual)[0], hidden_states + residual))  # fmt: skip


def wrong_epsilon(module):
    module.input_layernorm.variance_epsilon = 1e-3


def gelu_for_silu(module):
    forward(module.act_fn, lambda _, x: F.gelu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1])


def gate_and_up_swapped(module):
    forward(module.act_fn, lambda original, x: original(torch.cat(x.chunk(2, -1)[::-1], -1)))


def last_column_of_the_mlp(module):
    module.down_proj.weight.data[:, -1] = 0


def experts_of(module):
    return (module.mlp if hasattr(module, "mlp") else module).experts


def next_expert_for_one_token(module):
    def call(original, *args):
        weights, ids = original(*args)
        ids = ids.clone()
        ids[-1, 0] = (ids[-1] + 1).max() % experts_of(module).num_experts
        return weights, ids

    forward(experts_of(module).router, call)


def equal_weights_of_experts(module):
    def call(original, *args):
        weights, ids = original(*args)
        return weights.mean(dim=-1, keepdim=True).expand_as(weights), ids

    forward(experts_of(module).router, call)


def last_expert_dropped(module):
    def call(original, *args):
        weights, ids = original(*args)
        weights = weights.clone()
        weights[:, -1] = 0
        return weights, ids

    forward(experts_of(module).router, call)


def no_shared_expert(module):
    forward(module.shared_experts, lambda original, x: torch.zeros_like(x))


def not_scaled(module):
    forward(experts_of(module).router, lambda original, *args: (
        original(*args)[0] / experts_of(module).router.routed_scaling_factor, original(*args)[1]))  # fmt: skip


HIDDEN = 512
WIDE = {**CONFIG, "hidden_size": HIDDEN, "num_attention_heads": 8, "head_dim": 64, "intermediate_size": 1536}


def widened(scenario):
    """The same with a hidden size of 512, 8 query and 2 KV heads of 64."""
    sizes = {"hidden_size": HIDDEN, "num_heads": 8, "intermediate_size": 1536, "config": WIDE}
    inputs = []
    for spec in scenario.inputs:
        shape = (*spec.shape[:-1], {64: HIDDEN, 32: 64}.get(spec.shape[-1], spec.shape[-1])) if spec.shape else ()
        inputs.append(replace(spec, shape=shape if "float" in spec.dtype else spec.shape))
    return replace(scenario, inputs=tuple(inputs), init={k: sizes.get(k, v) for k, v in scenario.init.items()})


SCENARIOS = {
    "attention decode": lambda: widened(llama_attention("decode", 17)),
    "attention prefill": lambda: widened(llama_attention("prefill", 33)),
    "attention chunked": lambda: widened(llama_attention("chunked", 17)),
    "attention mixed": lambda: widened(llama_attention("mixed", 17)),
    "mlp": lambda: widened(llama_mlp(17)),
    "layer decode": lambda: widened(llama_layer("decode", 17)),
    "layer prefill": lambda: widened(llama_layer("prefill", 33)),
    "experts": lambda: mixtral_moe(33),
    "grouped experts": lambda: deepseek_moe(33),
    "layer of experts": lambda: mixtral_layer("decode", 17),
    "layer of experts mixed": lambda: mixtral_layer("mixed", 17),
}


@pytest.mark.parametrize("change", [nothing, in_float32, rounded_products, split_products])
@pytest.mark.parametrize("name", SCENARIOS)
def test_honest_rewrites_pass(name, change):
    found = grade(SCENARIOS[name](), change)
    assert found.verdict is Verdict.PASSED, found.message
    assert found.correctness is not None
    assert found.correctness.max_error_ratio < 0.8


@pytest.mark.parametrize("name", ["attention decode", "attention mixed", "layer prefill"])
def test_heads_may_be_rotated_with_rounded_products(name):
    found = grade(SCENARIOS[name](), rotated_in_bf16)
    assert found.verdict is Verdict.PASSED, found.message


VALUES, SCALE, MISSED = Verdict.WRONG_VALUES, Verdict.WRONG_SCALE, Verdict.MISSED_WRITE
WRONG = [
    ("attention decode", swapped_kv_heads, MISSED),
    ("attention decode", no_cache_write, MISSED),
    ("attention decode", no_write_of_values, MISSED),
    ("attention decode", positions_ignored, MISSED),
    ("attention decode", last_position_wrong, MISSED),
    ("attention decode", last_key_unseen, VALUES),
    ("attention decode", scale_off, VALUES),
    ("attention decode", one_head_silent, VALUES),
    ("attention decode", fp8_activations, MISSED),
    ("attention prefill", swapped_kv_heads, MISSED),
    ("attention prefill", no_mask_between_prompts, VALUES),
    ("attention prefill", scale_off, VALUES),
    ("attention chunked", positions_ignored, MISSED),
    ("attention mixed", last_key_unseen, VALUES),
    ("attention mixed", no_write_of_values, MISSED),
    ("mlp", gelu_for_silu, VALUES),
    ("mlp", gate_and_up_swapped, VALUES),
    ("mlp", last_column_of_the_mlp, VALUES),
    ("mlp", fp8_activations, VALUES),
    ("layer decode", no_residual, VALUES),
    ("layer decode", residual_of_the_input, VALUES),
    ("layer decode", wrong_epsilon, MISSED),
    ("layer decode", positions_ignored, MISSED),
    ("layer prefill", no_mask_between_prompts, VALUES),
    ("layer prefill", fp8_activations, MISSED),
    ("experts", next_expert_for_one_token, VALUES),
    ("experts", equal_weights_of_experts, VALUES),
    ("experts", last_expert_dropped, VALUES),
    ("grouped experts", next_expert_for_one_token, VALUES),
    ("grouped experts", equal_weights_of_experts, VALUES),
    ("grouped experts", no_shared_expert, VALUES),
    ("grouped experts", not_scaled, VALUES),
    ("layer of experts", next_expert_for_one_token, VALUES),
    ("layer of experts", last_expert_dropped, VALUES),
    ("layer of experts mixed", no_residual, VALUES),
]


@pytest.mark.parametrize(("name", "change", "verdict"), WRONG)
def test_wrong_blocks_fail(name, change, verdict):
    found = grade(SCENARIOS[name](), change)
    assert found.verdict is verdict, (found.message, found.correctness)


class Wrapped(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(("off", "wrapped", "verdict"), [
    (0.015, False, VALUES), (0.015, True, Verdict.PASSED), (0.04, True, VALUES),
])
def test_only_what_is_made_of_several_operators_has_more_room(off, wrapped, verdict):
    """An element that is `off` where the result is 0: an operator may be 0.01 off, a block 8 of its own errors more."""
    layer = RowParallelLinear(256, 512, bias=False, params_dtype=torch.bfloat16)
    randomise_weights(layer, 7)
    layer.weight.data[0] = 0
    module = Wrapped(layer) if wrapped else layer
    scenario = block("row", "Row", {}, [InputSpec("x", "normal", ("tokens", 256), "bfloat16")], tokens=17)
    before = make_inputs(scenario, plan_draws(scenario, 5, "cpu")[0], CPU, module)
    after = copies(before)
    with torch.inference_mode():
        outputs = module(**after)
        outputs[0][3, 0] = off
    found = Judge(module, scenario).judge(before, CallOutcome(outputs, after))
    assert found.verdict is verdict, found.message
