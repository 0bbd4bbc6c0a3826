"""Scenarios for grading mutants: every use of an operator in the shipped models, at a small fraction of their sizes.

The shipped configs are kept in all that decides which code runs (families, biases, rotary scaling, windows, routing)
and shrunk in what decides how long it runs; the manifest is then generated from them as the shipped one is.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastkernels.manifest import Scenario, contexts, operators
from fastkernels.manifest.families import FAMILIES
from fastkernels.manifest.generate import generate
from fastkernels.manifest.loader import manifests_directory, parse_manifest
from fastkernels.manifest.reader import parse_config
from fastkernels.registry import Candidates, ImportGraph, baseline_root

DECODE_TOKENS = 8
"""Tokens of a call with decoding sequences."""

PREFILL_TOKENS = 43
"""Tokens of a call with prompts: more than a window holds."""

TPS = (1, 2, 4)
"""Tensor parallel degrees: two halve what is sharded; with four, rank 1 has ranks on both sides."""

AS_LISTED = {"L1.moe_align": 32, "L1.moe_grouped_gemm": 1, "L1.flash_attn_prefill": 2048, "L1.flash_attn_decode": 128,
             "L1.rms_norm": 2048}  # fmt: skip
"""Token counts that are graded besides, as listed: with 8 tokens no block of rows gets full, and from 8 on rows are
always sorted by their expert. On CUDA only long prompts of few heads have their keys split, only in large batches is a
split of a context longer than a block, and only of many rows is the sum written last."""

CONTEXTS = {"DECODE_KEYS": 160, "CACHED_TOKENS": 96, "PREFILL_PAGES": 16}
"""Sizes of the batches that the generator has as constants: longest context of a decoding sequence, tokens before a
prompt's chunk, pages of a batch with prompts."""

WINDOW = 24
"""Sliding window in tokens."""

COMMON: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000, "max_position_embeddings": 1040,
}  # fmt: skip
"""Sizes of every shrunk config, unless MODELS has others."""

YARN = {"original_max_position_embeddings": 256}
LATENT = {
    "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 48, "moe_intermediate_size": 64,
    "head_dim": None, "num_key_value_heads": 4, "first_k_dense_replace": 1,
}  # fmt: skip

PARTIAL = ("Qwen3MoeForCausalLM",)
"""Families that are taken to rotate a part of each head, as blocks can and no shipped model does."""

ABSENT = "absent"
"""Takes a key out of the config: the code's own default holds."""

V3 = {**LATENT, "q_lora_rank": 96, "n_routed_experts": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4,
      "rope_scaling": YARN}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama32-1b", {"rope_scaling": YARN}),
    "llama-bias": ("llama32-1b", {"rope_scaling": YARN, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral-7b-v03", {}),
    "mixtral": ("mixtral-8x7b", {"num_local_experts": 8}),
    "qwen2": ("qwen25-7b", {"num_attention_heads": 2}),
    "qwen2-window": ("qwen25-7b", {"num_attention_heads": 2, "use_sliding_window": True, "sliding_window": WINDOW,
                                   "max_window_layers": 1}),
    "qwen3": ("qwen3-8b", {}),
    "qwen3-moe": ("qwen3-30b-a3b", {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 96}),
    "qwen3-moe-plain": ("qwen3-30b-a3b", {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 96,
                                          "norm_topk_prob": False}),
    "gemma3": ("gemma3-27b", {"num_hidden_layers": 6, "sliding_window": WINDOW, "query_pre_attn_scalar": 40}),
    "gpt-oss": ("gpt-oss-20b", {"num_local_experts": 8, "num_experts_per_tok": 3, "experts_per_token": 3,
                                "rope_scaling": YARN, "layer_types": ["sliding_attention", "full_attention"],
                                "sliding_window": WINDOW}),
    "deepseek-v2-lite": ("deepseek-v2-lite", {**LATENT, "n_routed_experts": 8, "num_experts_per_tok": 3,
                                              "rope_scaling": YARN}),
    "deepseek-v2": ("deepseek-v2-lite", {**V3, "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0}),
    "deepseek-v3": ("deepseek-v3", V3),
    "gemma2": ("gemma2-9b", {"sliding_window": WINDOW, "query_pre_attn_scalar": 40}),
    "granite": ("granite31-8b", {}),
    "smollm3": ("smollm3-3b", {"num_hidden_layers": 4, "no_rope_layers": ABSENT, "layer_types": ABSENT}),
    "olmo2": ("olmo2-7b", {}),
    "starcoder2": ("starcoder2-7b", {"sliding_window": WINDOW}),
    "glm4-moe": ("glm45-air", {"n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 64,
                               "use_qk_norm": True}),
    "qwen2-yarn": ("qwen25-7b", {"num_attention_heads": 2,
                                 "rope_scaling": {**YARN, "rope_type": "yarn", "factor": 4.0, "mscale": 0.707}}),
    "qwen3-moe-defaults": ("qwen3-30b-a3b", {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 96,
                                             "decoder_sparse_step": ABSENT, "mlp_only_layers": ABSENT}),
    "deepseek-v2-defaults": ("deepseek-v2-lite", {**LATENT, "n_routed_experts": 8, "num_experts_per_tok": 3,
                                                  "rope_scaling": ABSENT, "n_shared_experts": ABSENT,
                                                  "first_k_dense_replace": ABSENT}),
    "deepseek-v2-mscale": ("deepseek-v2-lite", {**LATENT, "n_routed_experts": 8, "num_experts_per_tok": 3,
                                                "rope_scaling": {**YARN, "mscale": ABSENT, "mscale_all_dim": ABSENT},
                                                "moe_layer_freq": ABSENT}),
}  # fmt: skip
"""Shipped model and what is changed of its config besides COMMON; `rope_scaling` is merged into the model's own. Some
are taken several times: with options that no shipped model sets, or without those that all set, but the code has for
others of the family."""


def shrunk_config(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped config of this name with small sizes."""
    data: dict[str, Any] = json.loads((manifests_directory() / "models" / f"{name}.json").read_text())
    text = data.get("text_config", data)
    wanted = {**COMMON, **changes}
    if isinstance(wanted.get("rope_scaling"), Mapping):
        wanted["rope_scaling"] = _without_absent({**(text.get("rope_scaling") or {}), **wanted["rope_scaling"]})
    merged = _without_absent({**text, **{key: value for key, value in wanted.items() if value is not None}})
    return {**data, "text_config": merged} if "text_config" in data else merged


def _without_absent(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value != ABSENT}


@cache
def small_scenarios() -> dict[str, tuple[Scenario, ...]]:
    """Scenarios by operator's module (`L1.rms_norm`), equal ones once, the cheapest first."""
    partial = {name: replace(FAMILIES[name], partial_rotary=True) for name in PARTIAL}
    with patch.dict(FAMILIES, partial):
        configs = [parse_config(shrunk_config(base, changes), name, name, name)
                   for name, (base, changes) in MODELS.items()]
    with ExitStack() as stack:
        for module in (contexts, operators):
            sizes: dict[str, Any] = {name: size for name, size in CONTEXTS.items() if hasattr(module, name)}
            stack.enter_context(patch.multiple(module, **sizes))
        manifest = parse_manifest(generate(configs, TPS), Path("shrunk models"))
    found: dict[str, dict[str, Scenario]] = defaultdict(dict)
    for scenario in manifest.scenarios():
        if scenario.tokens == AS_LISTED.get(scenario.relative_module):
            if not _adds_nothing(scenario):
                found[scenario.relative_module].setdefault(scenario.shape_key, scenario)
        elif scenario.tokens == (512 if scenario.phase == "prefill" else 8) and "context8192" not in scenario.variant:
            tokens = PREFILL_TOKENS if scenario.phase == "prefill" else DECODE_TOKENS
            small = replace(scenario, tokens=tokens)
            if not _adds_nothing(small):
                found[small.relative_module].setdefault(small.shape_key, small)
    return {module: tuple(sorted(some.values(), key=_cost)) for module, some in found.items()}


def _adds_nothing(scenario: Scenario) -> bool:
    """Whether another scenario runs the same code on other sizes.

    At level 1 a rank's share is a smaller shape. Of blocks with attention, which cost most, the batches that decode are
    kept at TP 2, the others at TP 1; of sharded layers TP 2. Only a share of the vocabulary has two borders at TP 4.
    """
    if scenario.tp > 2:
        return scenario.module != "vocab_parallel_embedding"
    if scenario.level == 1:
        return scenario.tp > 1 and scenario.op != "embedding"
    if any(spec.name.startswith("context.") for spec in scenario.inputs):
        return (scenario.tp == 1) == (scenario.phase == "decode")
    return scenario.tp == 1 and scenario.module == "parallel_linear"


def _cost(scenario: Scenario) -> int:
    return sum(_elements(scenario.resolved_shape(spec)) for spec in scenario.inputs)


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


@cache
def _imports() -> ImportGraph:
    """What the baseline's files import; the same for every module."""
    return ImportGraph.of(baseline_root(), Candidates({}))


@cache
def graded_by(module: str) -> tuple[Scenario, ...]:
    """What a run at the module's level grades: its own scenarios, then those of the operators that use it."""
    scenarios = small_scenarios()
    users = [user for user in scenarios if user.split(".")[0] == module.split(".")[0] and user != module
             and module in _imports().baseline_reaches(user)]
    of_users = sorted((scenario for user in users for scenario in scenarios[user]), key=_cost)
    return (*scenarios.get(module, ()), *of_users)
