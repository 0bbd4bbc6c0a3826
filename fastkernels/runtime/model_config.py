"""What task files read from a model's config, as the manifest reads it (fastkernels.manifest.facts)."""

import re

from fastkernels.errors import ModelError, one_of
from fastkernels.manifest.facts import (
    FULL,
    LATENT_EPS,
    SLIDING,
    has_experts,
    has_positions,
    head_size,
    latent_scale,
    layer_type,
    norm_eps,
    num_experts,
    num_kv_heads,
    optional,
    rope_parameters,
    sliding_window,
)

__all__ = [
    "FULL", "LATENT_EPS", "SLIDING", "check_choice", "has_experts", "has_positions", "head_size", "latent_scale",
    "layer_index", "layer_type", "norm_eps", "num_experts", "num_kv_heads", "optional", "rope_parameters",
    "sliding_window",
]  # fmt: skip


def layer_index(prefix: str) -> int:
    """The layer that a name such as `model.layers.3.self_attn` belongs to; 0 for a layer that is called alone."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", prefix)
    return int(found.group(1)) if found else 0


def check_choice(name: str, found: str, *allowed: str) -> str:
    """The config's value; ModelError where it is none that a block is made for."""
    if found not in allowed:
        raise ModelError(f"{name}: {one_of(found, allowed)}")
    return found
