"""Cuts a model to what a machine can hold: a layer of each kind at published widths, and fewer experts where needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastkernels.manifest.config import Layer, ModelConfig, Routing
from fastkernels.manifest.reader import parse_config

FEWEST_LAYERS = 2
"""Layers that stay, at least: what one hands to the next is part of a model."""

EXPERT_WEIGHTS = 1_500_000_000
"""Weights of a layer's experts at TP 1, at most (3 GB in bfloat16): experts are halved until they fit."""

SPARSE = 2
"""Times as many experts as a token chooses stay at least."""

NOTE = "_cut"
"""Key of a cut config that says what was cut."""

PATTERNS = ("sliding_window_pattern", "max_window_layers")
"""Keys that say by layer number which layers have windows; `layer_types` takes their place."""

EXPERTS_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Keys that count experts; a config may have two of them."""


@dataclass(frozen=True)
class Cut:
    """A model of fewer layers."""

    name: str
    """Name of its config in a manifest: `llama31-8b-2layers`."""
    raw: Mapping[str, Any]
    """Its config, with what was cut under `_cut`."""
    config: ModelConfig
    """The same as it is read."""
    num_layers: int
    """Its layers."""


def cut_model(config: ModelConfig) -> Cut:
    """Return the model with the first layer of each kind, two layers at least, at widths as published."""
    experts = kept_experts(config)
    count = config.raw["num_hidden_layers"]
    for indices in (_first_of_each(config, count), range(1 + max(layer.index for layer in config.layers))):
        counts = {key: experts for key in EXPERTS_KEYS if key in config.raw and experts}
        raw = {**_with_layers(config, indices), **counts}
        found = _read(config, raw)
        if _kinds(found) == _kinds(config):
            break
        # What tells its layers apart is no key that is known here: the first ones, as many as it takes.
    note = f"layers {', '.join(map(str, indices))} of {count}"
    if experts < config.routing.num_experts:
        note += f"; {experts} of {config.routing.num_experts} experts"
    raw = {NOTE: note, "dtype": config.dtype, **raw}
    return Cut(f"{config.name}-{len(indices)}layers", raw, found, len(indices))


def kept_experts(config: ModelConfig) -> int:
    """Experts of a layer that stay: all, or halved until their weights are EXPERT_WEIGHTS at most; 0 of dense layers.

    Never so few that a token's choice, or a group's, is none.
    """
    routing = config.routing
    experts, each = routing.num_experts, 3 * config.hidden_size * config.expert_size
    while experts * each > EXPERT_WEIGHTS and _can_be(experts // 2, routing) and experts % 2 == 0:
        experts //= 2
    return experts


def _can_be(experts: int, routing: Routing) -> bool:
    in_group = max(2, -(-routing.top_k // routing.top_groups)) if routing.groups > 1 else 1
    return experts >= SPARSE * routing.top_k and experts % routing.groups == 0 and experts // routing.groups >= in_group


def _first_of_each(config: ModelConfig, count: int) -> Sequence[int]:
    """The first layer of each kind, and those behind where there are too few."""
    first = sorted(layer.index for layer in config.layers)
    return [*first, *range(first[-1] + 1, count)][: max(len(first), FEWEST_LAYERS)]


def _with_layers(config: ModelConfig, indices: Sequence[int]) -> dict[str, Any]:
    """The config with these layers: lists with a value for each layer, and keys that count or number layers."""
    count = config.raw["num_hidden_layers"]
    raw = {key: [value[index] for index in indices] if isinstance(value, list) and len(value) == count else value
           for key, value in config.raw.items()}
    raw["num_hidden_layers"] = len(indices)
    known = {layer.index: layer for layer in config.layers}
    if not set(indices) <= known.keys() and len(known) > 1:
        return raw
    layers = [known.get(index, config.layers[0]) for index in indices]
    if any(layer.window for layer in layers) and "layer_types" not in raw:
        raw = {key: value for key, value in raw.items() if key not in PATTERNS}
        raw["layer_types"] = ["sliding_attention" if layer.window else "full_attention" for layer in layers]
    if "first_k_dense_replace" in raw:
        raw["first_k_dense_replace"] = sum(not layer.experts for layer in layers)
    return raw


def _read(config: ModelConfig, raw: Mapping[str, Any]) -> ModelConfig:
    """The cut config as a model's is read."""
    whole = {**raw, "architectures": [config.architecture], "torch_dtype": config.dtype}
    return parse_config(whole, f"{config.name}, cut", config.name, config.model_id)


def _kinds(config: ModelConfig) -> list[Layer]:
    return [replace(layer, index=0) for layer in config.layers]
