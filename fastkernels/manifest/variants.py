"""Values of init arguments that no shipped shape has and operators take: small modules graded beside a scenario's own.

Which scenario leads to which module follows from what its own init arguments name: one that names no window leads to
none with a window. A candidate that refuses such a value is right; one that computes something else with it is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastkernels.manifest.scenario import Dim, InputSpec, Scenario

TOKENS = 7
"""Tokens of a call."""

POSITIONS = 512
"""Positions of a rotary table."""

WINDOW = 40
"""A window that is no multiple of a block of keys."""

WINDOW_TOKENS = 2 * WINDOW + 7
"""Tokens of a prompt in such a window, of which most rows see only a part."""

HEAD = 96
"""A head size that is no power of two."""

SMALL, WIDE = 256, 512
"""Hidden and intermediate sizes of blocks; they divide by every TP degree."""

GELU_WIDTH = 16384
"""So many that gates of -2 to -4, where the two forms of GELU differ most, come beside outliers."""

BASE = 20000.0
"""A base of the angles of rotary embeddings."""

Inputs = dict[str, InputSpec]
Changed = tuple[Mapping[str, Any], Inputs]
"""(init arguments that change, inputs that change)."""


@dataclass(frozen=True)
class Variant:
    """One module beside a scenario's own."""

    scenario: Scenario
    """The scenario with other init arguments, at TOKENS tokens."""
    name: str
    """What is otherwise, such as `rotary_dim=64`."""


def variants(scenario: Scenario) -> list[Variant]:
    """The modules to grade beside this one; none where all values of its arguments are shipped with some model."""
    change = CHANGES.get(scenario.op)
    if change is None:
        return []
    own = {spec.name: spec for spec in scenario.inputs}
    try:
        found = list(change(scenario.init, own))
    except KeyError:  # a manifest of one's own need not name what the shipped ones do
        return []
    return [Variant(replace(scenario, tokens=_tokens(init, own), golden=None, init={**scenario.init, **init},
                            inputs=tuple({**own, **inputs}.values())), name) for name, (init, inputs) in found]


def _tokens(init: Mapping[str, Any], own: Inputs) -> int:
    """Tokens of a call; a window shows in prompts that are longer."""
    return WINDOW_TOKENS if "sliding_window" in init and "cu_seqlens_q" in own else TOKENS


def _rotary(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Half of each head rotated, of four query heads and two (one where the model has one) of keys."""
    size = init["head_size"]
    if init["rotary_dim"] != size or size % 4:
        return []
    few = {"head_size": size, "rotary_dim": size // 2, "max_position_embeddings": POSITIONS, "base": 10000.0,
           "rope_scaling": None}  # fmt: skip
    inputs = {"positions": replace(own["positions"], args={"max": POSITIONS})}
    for name, heads in (("query", 4), ("key", 1 if own["key"].shape[-1] == size else 2)):
        shape: tuple[Dim, ...] = ("tokens", heads, size) if len(own[name].shape) == 3 else ("tokens", heads * size)
        inputs[name] = replace(own[name], shape=shape, strides=())
    return [(f"rotary_dim={size // 2}", (few, inputs))]


def _topk(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    del own
    return [("renormalize=False", ({"renormalize": False}, {}))] if init["renormalize"] else []


def _gelu(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    exact = ("approximate='none'", ({"approximate": "none"}, _widths(own, x=GELU_WIDTH)))
    return [exact] if init["approximate"] == "tanh" else []


def _swiglu(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    del init
    return [("alpha=1.1, limit=2.5", ({"alpha": 1.1, "limit": 2.5}, _widths(own, x=SMALL)))]


def _gemma_norm(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    del init
    names = [name for name in ("x", "residual") if name in own]
    return [("eps=1e-05", ({"hidden_size": SMALL, "eps": 1e-5}, _widths(own, **dict.fromkeys(names, SMALL))))]


def _attention(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Heads of another size, and another window where there is one."""
    kv_heads = 2
    heads = kv_heads * (init["num_heads"] // init["num_kv_heads"])
    few = {"num_heads": heads, "num_kv_heads": kv_heads, "head_size": HEAD, "scale": 0.2}
    inputs = {name: replace(own[name], shape=(own[name].shape[0], *middle, count, HEAD), strides=())
              for name, middle, count in (("query", (), heads), ("key", (), kv_heads), ("value", (), kv_heads),
                                          ("key_cache", own.get("key_cache", own["query"]).shape[1:2], kv_heads),
                                          ("value_cache", own.get("key_cache", own["query"]).shape[1:2], kv_heads))
              if name in own}  # fmt: skip
    if "sinks" in own:
        inputs["sinks"] = replace(own["sinks"], shape=(heads,))
    window = {"sliding_window": WINDOW} if "sliding_window" in init else {}
    return [(", ".join(f"{key}={value}" for key, value in {"head_size": HEAD, "scale": 0.2, **window}.items()),
             ({**few, **window}, inputs))]


def _latent(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    del init
    few = {"num_heads": 4, "kv_lora_rank": 128, "qk_rope_head_dim": 32, "scale": 0.2}
    inputs = {"query": replace(own["query"], shape=("tokens", 4, 160)),
              "kv_cache": replace(own["kv_cache"], shape=(*own["kv_cache"].shape[:2], 160))}
    return [("kv_lora_rank=128, qk_rope_head_dim=32, scale=0.2", (few, inputs))]


def _biased_linear(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    sizes = {"output_sizes": [WIDE, WIDE]} if "output_sizes" in init else {"output_size": WIDE}
    few = {"input_size": SMALL, "bias": True, **sizes}
    return [] if init["bias"] else [("bias=True", (few, _widths(own, x=SMALL)))]


def _biased_mlp(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    few = {"hidden_size": SMALL, "intermediate_size": WIDE, "bias": True}
    return [] if init["bias"] else [("bias=True", (few, _widths(own, x=SMALL)))]


def _biased_attention(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    names = tuple(name for name in ("qkv_bias", "bias", "bias_o_proj") if name in init)
    if any(init[name] for name in names):
        return []
    few: dict[str, Any] = {"hidden_size": SMALL, **dict.fromkeys(names, True)}
    if "config" in init:
        few["config"] = _narrow(init["config"])
    return [(", ".join(f"{name}=True" for name in names), (few, _widths(own, hidden_states=SMALL)))]


def _qwen_attention(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Another base of the angles, and where heads are normalised another epsilon and biases."""
    rope = {"rope_theta": 10000.0, "rope_type": "default"}
    few: dict[str, Any] = {"rope_parameters": rope}
    if "rms_norm_eps" not in init:
        return [("rope_parameters=theta 1e4", (few, {}))]
    found = _biased_attention(init, own)
    few |= {"rms_norm_eps": 0.01, "hidden_size": SMALL}
    changed = ("rope_parameters=theta 1e4, rms_norm_eps=0.01", (few, _widths(own, hidden_states=SMALL)))
    return [*found, changed]


def _based_attention(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Another base of the angles, and biases where there are none."""
    few: dict[str, Any] = {"config": {**_narrow(init["config"]), "rope_theta": BASE}}
    if "hidden_size" in init:
        few["hidden_size"] = SMALL
    biases = _biased_attention(init, own) if "bias" in init else []
    return [*biases, ("config=rope_theta 2e4", (few, _widths(own, hidden_states=SMALL)))]


def _gemma2_attention(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Another base, and a cap that scores of normal inputs reach."""
    capped = {"config": _narrow(init["config"]), "hidden_size": SMALL, "attn_logits_soft_cap": 2.0}
    changed = ("attn_logits_soft_cap=2.0", (capped, _widths(own, hidden_states=SMALL)))
    return [*_based_attention(init, own), changed]


def _glm_attention(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Another base, and heads that are normalised, with another epsilon, in place of biases."""
    if init["use_qk_norm"]:
        return _based_attention(init, own)
    few = {"config": _narrow(init["config"]), "hidden_size": SMALL, "qkv_bias": False, "use_qk_norm": True,
           "rms_norm_eps": 0.01}  # fmt: skip
    changed = ("qkv_bias=False, use_qk_norm=True, rms_norm_eps=0.01", (few, _widths(own, hidden_states=SMALL)))
    return [*_based_attention(init, own), changed]


def _based_layer(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Another base of the angles."""
    streams = dict.fromkeys([name for name in ("hidden_states", "residual") if name in own], SMALL)
    few = {"config": {**_narrow(init["config"]), "rope_theta": BASE}}
    return [("config=rope_theta 2e4", (few, _widths(own, **streams)))]


def _qwen2_layer(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """The same with two query heads for each of keys, since heads are as wide as the stream divided by their number."""
    config = _narrow(init["config"])
    heads = 2 * config["num_key_value_heads"]
    width = config["head_dim"] * heads
    few = {**config, "num_attention_heads": heads, "hidden_size": width, "rope_theta": BASE}
    streams = dict.fromkeys([name for name in ("hidden_states", "residual") if name in own], width)
    return [("config=rope_theta 2e4", ({"config": few}, _widths(own, **streams)))]


def _routed(init: Mapping[str, Any], own: Inputs) -> list[tuple[str, Changed]]:
    """Weights of experts that are not divided by their sum."""
    if not init["config"]["norm_topk_prob"]:
        return []
    few = {"config": {**_narrow(init["config"]), "norm_topk_prob": False}}
    return [("config=norm_topk_prob False", (few, _widths(own, hidden_states=SMALL)))]


def _narrow(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with small hidden and intermediate sizes, and heads as they are."""
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    widths = {name: WIDE for name in ("intermediate_size", "moe_intermediate_size") if name in config}
    return {**config, **widths, "head_dim": head, "hidden_size": SMALL}


def _widths(own: Inputs, **widths: int) -> Inputs:
    """These inputs with other last dimensions; a literal, such as no residual stream, stays."""
    return {name: replace(own[name], shape=(*own[name].shape[:-1], width), strides=())
            for name, width in widths.items() if own[name].shape}  # fmt: skip


CHANGES: Mapping[str, Callable[[Mapping[str, Any], Inputs], list[tuple[str, Changed]]]] = {
    "rotary_emb": _rotary,
    "topk_softmax": _topk,
    "gelu_and_mul": _gelu,
    "swigluoai_and_mul": _swiglu,
    "gemma_rms_norm": _gemma_norm,
    "flash_attn_prefill": _attention,
    "flash_attn_decode": _attention,
    "mla_decode": _latent,
    "column_parallel_linear": _biased_linear,
    "merged_column_parallel_linear": _biased_linear,
    "llama_mlp": _biased_mlp,
    "llama_attention": _biased_attention,
    "qwen2_attention": _qwen_attention,
    "qwen3_attention": _qwen_attention,
    "granite_attention": _based_attention,
    "smollm3_attention": _based_attention,
    "gpt_oss_attention": _based_attention,
    "gemma2_attention": _gemma2_attention,
    "glm4_moe_attention": _glm_attention,
    "qwen3_moe": _routed,
    "glm4_moe": _routed,
    "qwen2_decoder_layer": _qwen2_layer,
    "granite_decoder_layer": _based_layer,
    "smollm3_decoder_layer": _based_layer,
    "gemma2_decoder_layer": _based_layer,
    "glm4_moe_decoder_layer": _based_layer,
}
"""What each operator has otherwise."""
