"""What layers read from a model's config: the one place where names and defaults of models and releases meet.

A config is any object with the attributes of config.json: transformers' own, or a SimpleNamespace. What an architecture
makes of a key (windows above all) is found by its `model_type`; a config without one is read as plainly as it stands.
"""

import math
from collections.abc import Mapping
from typing import Any

from fastkernels.manifest.families import ANY, FAMILIES, Family

FULL = "full_attention"
SLIDING = "sliding_attention"
"""Values of `layer_types`."""

EXPERTS_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Names of the number of routed experts: transformers saves some families under another than they were published."""

LATENT_EPS = 1e-6
"""Epsilon of the norms of compressed queries and keys in latent attention, whatever rms_norm_eps is."""

ROPE_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "yarn": (("factor", "original_max_position_embeddings"),
             ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")),
}  # fmt: skip
"""Kinds of rotary scaling that are built: (keys that each needs, keys that it may have)."""


def optional(config: Any, name: str, default: Any) -> Any:
    """The attribute; `default` where it is absent or None."""
    value = getattr(config, name, None)
    return default if value is None else value


def family_of(config: Any) -> Family:
    """The family whose configs have this `model_type`; the plain one where it names none that is known."""
    kind = getattr(config, "model_type", None)
    return next((family for family in FAMILIES.values() if kind in family.model_types), ANY)


def head_size(config: Any) -> int:
    """Width of a head."""
    return int(optional(config, "head_dim", config.hidden_size // config.num_attention_heads))


def num_kv_heads(config: Any) -> int:
    """Key and value heads; as many as query heads where the config names none."""
    return int(optional(config, "num_key_value_heads", config.num_attention_heads))


def num_experts(config: Any) -> int:
    """Routed experts of a layer; 0 where there are none."""
    return int(next((value for name in EXPERTS_KEYS if (value := getattr(config, name, None)) is not None), 0))


def norm_eps(config: Any) -> float:
    """Epsilon of the norms."""
    return float(getattr(config, family_of(config).eps_key))


def has_positions(config: Any, index: int) -> bool:
    """Whether a layer has a rotary embedding, by `no_rope_layers` (1: it has) or `no_rope_layer_interval`."""
    if not family_of(config).nope_interval:
        return True
    marks = getattr(config, "no_rope_layers", None)
    interval = optional(config, "no_rope_layer_interval", family_of(config).nope_interval)
    return bool(marks[index] if marks else (index + 1) % interval)


def has_experts(config: Any, index: int) -> bool:
    """Whether a layer's MLP is a block of experts: not in the first ones, those named, or between the steps."""
    is_dense = index < optional(config, "first_k_dense_replace", 0) or index in optional(config, "mlp_only_layers", ())
    step, frequency = optional(config, "decoder_sparse_step", 1), optional(config, "moe_layer_freq", 1)
    return num_experts(config) > 0 and not is_dense and (index + 1) % step == 0 and index % frequency == 0


def layer_type(config: Any, index: int) -> str:
    """`full_attention` or `sliding_attention`, by the architecture's own rule."""
    rule = family_of(config)
    types = getattr(config, "layer_types", None) if rule.windows in ("types", "last", "nope") else None
    if types:
        return str(types[index])
    has_pattern = rule.windows == "types" or rule is ANY
    pattern = int(optional(config, "sliding_window_pattern", rule.pattern)) if has_pattern else 0
    if pattern:
        return FULL if (index + 1) % pattern == 0 else SLIDING
    if not rule.windows or optional(config, "sliding_window", None) is None:
        return FULL
    if rule.windows != "all" and not optional(config, "use_sliding_window", rule is ANY):
        return FULL
    if rule.windows == "nope":
        return FULL if has_positions(config, index) else SLIDING
    first = optional(config, "max_window_layers", 0) if rule.windows == "last" else 0
    return SLIDING if index >= first else FULL


def sliding_window(config: Any, index: int) -> int | None:
    """Keys that a token of this layer sees, itself included; None where it sees all."""
    return int(config.sliding_window) if layer_type(config, index) == SLIDING else None


def rope_parameters(config: Any, index: int = 0) -> dict[str, Any]:
    """The rotary embedding of a layer as transformers 5 writes it: rope_theta, rope_type and what that type needs.

    There it lies in `rope_parameters`, by layer type where layers differ; before, the base stood in `rope_theta`, all
    else in `rope_scaling`. partial_rotary_factor is there where it is not 1.
    """
    found, theta = published_rope(config), optional(config, "rope_theta", family_of(config).rope_theta)
    kind = layer_type(config, index)
    if kind == SLIDING and hasattr(config, "rope_local_base_freq"):
        found, theta = {key: found[key] for key in (FULL, SLIDING) if key in found}, config.rope_local_base_freq
    elif kind == SLIDING and family_of(config).rope_by_type:
        found = {key: found[key] for key in (FULL, SLIDING) if key in found}
    if FULL in found or SLIDING in found:
        found = dict(found.get(kind) or {})
    name = str(found.get("rope_type", found.get("type", "default")))
    needed, allowed = ROPE_KEYS.get(name, ((), tuple(found)))
    kept = {key: found[key] for key in found if key in (*needed, *allowed) and found[key] is not None}
    share = found.get("partial_rotary_factor", optional(config, "partial_rotary_factor", 1.0))
    part = {} if share in (None, 1.0) else {"partial_rotary_factor": share}
    base = theta if found.get("rope_theta") is None else found["rope_theta"]
    return {"rope_theta": float(base), "rope_type": name, **part, **kept}


def published_rope(config: Any) -> dict[str, Any]:
    """`rope_parameters` or, in older configs, `rope_scaling`; the family's own where the config has neither."""
    found = optional(config, "rope_parameters", {}) or optional(config, "rope_scaling", {})
    return dict(found or family_of(config).rope)


def rotary_dim(config: Any, width: int) -> int:
    """Leading elements of a head of `width` that are rotated."""
    return int(width * rope_parameters(config).get("partial_rotary_factor", 1.0))


def max_positions(config: Any) -> int:
    """Positions that a model can be served at: YaRN's and linear scaling count.

    YaRN: `factor` times the original length; linear: `factor` times max_position_embeddings, unless a family's configs
    publish the scaled length, as those of the other kinds do.
    """
    given = int(config.max_position_embeddings)
    found = [given]
    for index in {layer_type(config, index): index for index in range(config.num_hidden_layers)}.values():
        rope = rope_parameters(config, index)
        if rope["rope_type"] == "yarn":
            found.append(int(rope["original_max_position_embeddings"] * rope["factor"]))
        elif rope["rope_type"] == "linear" and not family_of(config).scaled_positions:
            found.append(int(given * rope["factor"]))
    return max(found)


def latent_scale(width: int, rope: Mapping[str, Any]) -> float:
    """What the scores of latent attention are multiplied by; width: of a query head. Grows with YaRN's context."""
    scale = float(width**-0.5)
    if rope["rope_type"] != "default" and rope.get("mscale_all_dim"):
        scale *= yarn_mscale(float(rope["factor"]), float(rope["mscale_all_dim"])) ** 2
    return scale


def yarn_mscale(factor: float, mscale: float) -> float:
    """YaRN's 0.1 mscale ln(factor) + 1."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
