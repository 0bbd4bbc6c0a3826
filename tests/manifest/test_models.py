"""Level 4: every class of the task tree is a target, on configs that are cut in layers and not in widths."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from manifest.configs_by_hand import READ
from models_by_hand import manifest_text

from fastkernels.bench.isolate.build import build
from fastkernels.engine.kv_cache import cached_layers
from fastkernels.errors import ManifestError
from fastkernels.manifest import Selection, context
from fastkernels.manifest.cut import EXPERT_WEIGHTS, NOTE, cut_model, kept_experts
from fastkernels.manifest.families import FAMILIES
from fastkernels.manifest.generate import generate, shipped_configs
from fastkernels.manifest.loader import manifests_directory, parse_manifest
from fastkernels.manifest.models import model_classes, operator_name
from fastkernels.manifest.reader import parse_config

CONFIGS = {config.name: config for config in shipped_configs(manifests_directory() / "models")}
DEPTHS = {"num_hidden_layers", "layer_types", "no_rope_layers", "sliding_window_pattern", "max_window_layers",
          "first_k_dense_replace"}  # fmt: skip
"""Keys that say how many layers there are and of which kind."""
COUNTS = {"num_local_experts", "num_experts", "n_routed_experts"}
OF_EXPERTS = {"topk_softmax", "grouped_topk", "moe_align", "moe_grouped_gemm", "moe_sum", "fused_moe"}
ALL_DENSE = [name for name in READ if name.endswith(("-all-dense", "-steps-beyond"))]
MIXED = {name: (0, config.layers[1].index) for name, config in CONFIGS.items() if len(config.layers) == 2}


def test_every_class_has_a_family_and_scenarios(shipped):
    for name in model_classes():
        assert name in FAMILIES
        operator = shipped.operators[operator_name(name)]
        assert (operator.level, operator.class_name) == (4, name)
    variants = {}
    for scenario in shipped.scenarios(Selection(levels=(4,))):
        variants.setdefault(scenario.op, set()).add((scenario.variant, scenario.phase))
    assert variants.keys() == {operator_name(name) for name in model_classes()}
    assert all(found == {("", "decode"), ("", "prefill"), ("mixed", "prefill")} for found in variants.values())


def test_every_model_whose_class_there_is_has_scenarios_at_each_degree(shipped):
    found = {}
    for scenario in shipped.scenarios(Selection(levels=(4,))):
        found.setdefault(scenario.model, set()).add(scenario.tp)
    assert found == {name: set(shipped.models[name].tps) for name, c in CONFIGS.items()
                     if c.architecture in model_classes()}  # fmt: skip


@pytest.mark.parametrize(("name", "operator"), [
    ("LlamaForCausalLM", "llama_for_causal_lm"), ("Qwen3MoeForCausalLM", "qwen3_moe_for_causal_lm"),
    ("SmolLM3ForCausalLM", "smol_lm3_for_causal_lm"), ("DeepseekV3ForCausalLM", "deepseek_v3_for_causal_lm"),
    ("Gemma3ForConditionalGeneration", "gemma3_for_conditional_generation"),
])  # fmt: skip
def test_operators_are_named_after_their_classes(name, operator):
    assert operator_name(name) == operator


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_is_cut_in_layers_and_experts_alone(name):
    config = CONFIGS[name]
    cut = cut_model(config)
    changed = {key for key in config.raw.keys() | cut.raw.keys() if config.raw.get(key) != cut.raw.get(key)}
    assert changed - {NOTE, "dtype"} <= DEPTHS | COUNTS
    assert bool(changed & COUNTS) == (kept_experts(config) < config.routing.num_experts)
    assert cut.num_layers == max(2, len(config.layers)) == cut.raw["num_hidden_layers"]
    kinds = [(layer.window, layer.experts, layer.rope_parameters) for layer in config.layers]
    assert [(layer.window, layer.experts, layer.rope_parameters) for layer in cut.config.layers] == kinds
    assert cut.raw[NOTE].startswith("layers 0, ")


def test_the_layers_are_the_first_of_each_kind():
    assert {name: cut_model(CONFIGS[name]).raw[NOTE] for name in MIXED} == {
        "deepseek-v2-lite": "layers 0, 1 of 27",
        "deepseek-v3": "layers 0, 3 of 61; 32 of 256 experts",
        "gemma3-1b": "layers 0, 5 of 26",
        "gemma3-4b": "layers 0, 5 of 34",
        "gemma3-27b": "layers 0, 5 of 62",
        "gemma2-9b": "layers 0, 1 of 42",
        "glm45-air": "layers 0, 1 of 46; 64 of 128 experts",
        "olmo3-7b": "layers 0, 3 of 32",
        "smollm3-3b": "layers 0, 3 of 36",
        "gpt-oss-20b": "layers 0, 1 of 24",
        "gpt-oss-120b": "layers 0, 1 of 36; 32 of 128 experts",
    }


def test_experts_are_cut_by_their_weights_and_stay_a_choice():
    for config in CONFIGS.values():
        routing, kept = config.routing, kept_experts(config)
        if not routing.num_experts:
            continue
        each = 3 * config.hidden_size * config.expert_size
        assert routing.num_experts % kept == 0
        assert kept >= 2 * routing.top_k
        assert kept * each <= EXPERT_WEIGHTS or kept // 2 < 2 * routing.top_k
        assert kept == routing.num_experts or 2 * kept * each > EXPERT_WEIGHTS


def test_layers_that_no_known_key_tells_apart_are_the_first_ones(monkeypatch):
    """A family may say by a key of its own which layers have windows: then as many of the first as have each kind."""
    config = CONFIGS["gemma3-4b"]
    monkeypatch.setattr("fastkernels.manifest.cut.PATTERNS", ())
    monkeypatch.setattr("fastkernels.manifest.cut._with_layers",
                        lambda config, indices: {**config.raw, "num_hidden_layers": len(indices)})  # fmt: skip
    cut = cut_model(config)
    assert cut.num_layers == 6
    assert cut.raw[NOTE] == "layers 0, 1, 2, 3, 4, 5 of 34"


def test_a_model_of_one_layer_keeps_it():
    config = parse_config(
        {**CONFIGS["llama31-8b"].raw, "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16",
         "num_hidden_layers": 1}, "c", "one", "one",
    )  # fmt: skip
    assert cut_model(config).num_layers == 1


@pytest.mark.parametrize("name", ALL_DENSE)
def test_a_model_whose_layers_are_all_dense_has_no_entries_of_experts(name):
    """Though its config counts experts: none is built, so that its sizes need not fit a rank either."""
    config = parse_config({**READ[name], "moe_intermediate_size": 47}, "c", "dense", "dense")
    manifest = parse_manifest(generate([config], (1, 2)), Path("dense.yaml"))
    found = {scenario.op for scenario in manifest.scenarios()}
    assert not found & {*OF_EXPERTS, config.family.moe}
    assert {"llama_mlp", config.family.layer, operator_name(config.architecture)} <= found
    assert cut_model(config).config.routing.num_experts == 0


@pytest.mark.parametrize("name", model_classes())
def test_layers_ask_for_their_caches_by_the_agreed_names(shipped, name):
    scenario = shipped.scenarios(Selection(targets=(operator_name(name),)))[0]
    module = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
    model = build(getattr(module, name), scenario, torch.device("meta"))
    layers = scenario.init["config"]["num_hidden_layers"]
    assert [layer.layer_name for layer in cached_layers(model)] == [
        context.LAYER_NAME.format(index) for index in range(layers)
    ]
    assert {parameter.dtype for parameter in model.parameters()} <= {torch.bfloat16, torch.float32}
    assert model.lm_head.weight.dtype is torch.bfloat16


BROKEN = [
    ("  key_caches: {shape: [2,", "  key_caches: {shape: [3,", "context.key_caches.shape[0]: 3 is not 2, the config's "
     "layers"),
    ("logits_indices: {", "logit_indices: {", "inputs.logits_indices: missing; a model (level 4) is called with "
     "input_ids, positions, logits_indices"),
    ("    dtype: bfloat16\n", "    dtype: bfloat\n", "init.config.dtype: 'bfloat' is not one of bfloat16, float16, "
     "float32, float64. Did you mean 'bfloat16'?"),
    ("num_hidden_layers: 2", "num_hidden_layers: two", "init.config.num_hidden_layers: 'two' is not a number of at "
     "least 1"),
    ("    level: 4\n", "    level: 3\n", "context.key_caches: caches of all layers belong to a model (level 4); here "
     "it is key_cache"),
    ("  key_caches: {", "  key_cache: {", "context.value_caches: beside key_cache; a context has the caches of one "
     "layer or those of a model"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=[case[1].strip() for case in BROKEN])
def test_a_broken_entry_is_refused(old, new, message):
    text = manifest_text("llama", tie_word_embeddings=False)
    assert old in text
    with pytest.raises(ManifestError) as raised:
        parse_manifest(text.replace(old, new), Path("tiny.yaml"))
    assert message in str(raised.value)


def test_the_config_says_what_was_cut(shipped):
    for scenario in shipped.scenarios(Selection(levels=(4,), models=("deepseek-v3",), tps=(8,))):
        assert scenario.init["config"][NOTE] == "layers 0, 3 of 61; 32 of 256 experts"
        assert json.dumps(scenario.init)
