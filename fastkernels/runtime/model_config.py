"""Reads Hugging Face configs where their names or defaults differ between models and releases.

A config is any object with the attributes of config.json: transformers' PretrainedConfig or a SimpleNamespace.
"""

import re
from typing import Any

from fastkernels.errors import ModelError, one_of

FULL = "full_attention"
SLIDING = "sliding_attention"
"""Values of `layer_types`."""


def optional(config: Any, name: str, default: Any) -> Any:
    """The attribute; `default` where it is absent or None."""
    value = getattr(config, name, None)
    return default if value is None else value


def head_size(config: Any) -> int:
    """Width of a head."""
    return int(optional(config, "head_dim", config.hidden_size // config.num_attention_heads))


def num_kv_heads(config: Any) -> int:
    """Key and value heads; as many as query heads where the config names none."""
    return int(optional(config, "num_key_value_heads", config.num_attention_heads))


def norm_eps(config: Any) -> float:
    """Epsilon of the norms; families with LayerNorm call it otherwise."""
    names = ("rms_norm_eps", "norm_epsilon")
    return float(next(value for name in names if (value := getattr(config, name, None)) is not None))


def num_experts(config: Any) -> int:
    """Routed experts of a layer; 0 where there are none. transformers saves some families under another name."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    return int(next((value for name in names if (value := getattr(config, name, None)) is not None), 0))


def layer_index(prefix: str) -> int:
    """The layer that a name such as `model.layers.3.self_attn` belongs to; 0 for a layer that is called alone."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", prefix)
    return int(found.group(1)) if found else 0


def layer_type(config: Any, index: int) -> str:
    """`full_attention` or `sliding_attention`, by `layer_types` or, in older configs, what stood for them."""
    types = getattr(config, "layer_types", None)
    if types:
        return str(types[index])
    pattern = optional(config, "sliding_window_pattern", 0)
    if pattern:
        return FULL if (index + 1) % pattern == 0 else SLIDING
    is_windowed = optional(config, "sliding_window", 0) and optional(config, "use_sliding_window", True)
    return SLIDING if is_windowed and index >= optional(config, "max_window_layers", 0) else FULL


def sliding_window(config: Any, index: int) -> int | None:
    """Keys that a token of this layer sees, itself included; None where it sees all."""
    return int(config.sliding_window) if layer_type(config, index) == SLIDING else None


def has_positions(config: Any, index: int) -> bool:
    """Whether a layer has a rotary embedding, by `no_rope_layers` (1: it has) or `no_rope_layer_interval`."""
    marks = getattr(config, "no_rope_layers", None)
    return bool(marks[index] if marks else (index + 1) % optional(config, "no_rope_layer_interval", 4))


def rope_parameters(config: Any, index: int = 0) -> dict[str, Any]:
    """The rotary embedding of a layer as transformers 5 writes it: rope_theta, rope_type and what that type needs.

    There it lies in `rope_parameters`, by layer type where layers differ; before, the base stood in `rope_theta`, all
    else in `rope_scaling`.
    """
    kind = layer_type(config, index)
    found = dict(optional(config, "rope_parameters", {}))
    if kind in found:
        found = dict(found[kind])
    elif not found and kind == SLIDING and hasattr(config, "rope_local_base_freq"):
        found = {"rope_theta": config.rope_local_base_freq}
    elif not found:
        found = dict(optional(config, "rope_scaling", {}))
    found["rope_type"] = found.get("rope_type", found.pop("type", "default"))
    found.setdefault("rope_theta", optional(config, "rope_theta", 10000.0))
    found.setdefault("partial_rotary_factor", optional(config, "partial_rotary_factor", 1.0))
    return found


def check_choice(name: str, found: str, *allowed: str) -> str:
    """The config's value; ModelError where it is none that a block is made for."""
    if found not in allowed:
        raise ModelError(f"{name}: {one_of(found, allowed)}")
    return found
