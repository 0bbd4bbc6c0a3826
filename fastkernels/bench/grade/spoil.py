"""What edge draws put where nothing may be read, scores that a softmax must take its maximum off, and rows of NaN."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.bench.grade.noise import seeded
from fastkernels.manifest.context import PREFIX
from fastkernels.manifest.scenario import Scenario

HUGE = 1e15
"""A number beside which all others are nothing, and whose square float32 still has."""

SCORE = 110.0
"""Scores to which all keys are moved alike: their exponential is infinite in float32 from 89 on."""

BIASED = 64
"""Elements of a head, the last ones, that carry this score. In latent attention these are rotated and no value."""

NAN = "nan"
"""Kind of the draw that has a row of NaN."""


def spoil(inputs: dict[str, Any], scenario: Scenario, seed: int, window: int) -> None:
    """Change the inputs of an edge draw in place; `window`: keys that count, 0 for all."""
    own = {name.removeprefix(PREFIX): value for name, value in inputs.items()}
    query = own.get("query")
    if isinstance(query, torch.Tensor) and "scale" in scenario.init:
        _raise_scores(own, scenario, seeded(query.device, seed, "scores"))
    caches = {name: value for name, value in own.items() if name.endswith("_cache")}
    if caches:
        generator = seeded(next(iter(caches.values())).device, seed, "garbage")
        seen = _rows_seen(own, next(iter(caches.values())), window)
        for cache in caches.values():
            _fill_with_garbage(cache, seen, generator)
    if PREFIX + "slot_mapping" in inputs and not any(spec.values == "routed" for spec in scenario.inputs):
        _spoil_padding(inputs, scenario)


def put_nan_rows(inputs: Mapping[str, Any], scenario: Scenario, seed: int) -> None:
    """Fill one token's rows of every input of normal values with NaN, in place."""
    token = seeded(torch.device("cpu"), seed, NAN).initial_seed() % scenario.tokens
    for spec in scenario.inputs:
        width, rest = divmod(scenario.resolved_shape(spec)[0], scenario.tokens) if spec.shape else (0, 1)
        if spec.values == "normal" and not rest and isinstance(spec.shape[0], str) and not spec.name.endswith("_cache"):
            inputs[spec.name][token * width:(token + 1) * width] = float("nan")


def _raise_scores(own: Mapping[str, Any], scenario: Scenario, generator: torch.Generator) -> None:
    """Add one vector to all keys and plus or minus another to each query, so that their product is SCORE.

    Softmax is the same for scores that are moved alike. Minus only without sinks, beside which keys would be nothing.
    """
    query = own["query"]
    caches = [value for name, value in own.items() if name in ("key_cache", "kv_cache", "latent_cache")]
    size = query.shape[-1] if query.dim() == 3 else caches[0].shape[-1]
    width = min(BIASED, size)
    signs = torch.randint(0, 2, (width,), generator=generator, device=query.device).mul_(2).sub_(1)
    vector = signs * (SCORE / (float(scenario.init["scale"]) * width)) ** 0.5
    flips = torch.randint(0, 2, (query.shape[0], 1, 1), generator=generator, device=query.device).mul_(2).sub_(1)
    if isinstance(own.get("sinks"), torch.Tensor):
        flips.fill_(1)
    keys = own.get("key")
    for tensor in (*caches, *([keys] if isinstance(keys, torch.Tensor) else [])):
        _heads(tensor, size)[..., size - width:] += vector.to(tensor.dtype)
    _heads(query, size)[..., size - width:] += (flips * vector).to(query.dtype)


def _heads(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """The same memory with a head in the last dimension."""
    return tensor if tensor.dim() > 2 else tensor.view(*tensor.shape[:-1], -1, size)


def _rows_seen(own: Mapping[str, Any], cache: torch.Tensor, window: int) -> torch.Tensor:
    """[pages * page_size] bool: rows of the cache that a sequence of the batch may read."""
    page_size = cache.shape[1]
    seen = torch.zeros(cache.shape[0] * page_size, dtype=torch.bool, device=cache.device)
    if isinstance(own.get("block_table"), torch.Tensor):
        for used, pages in zip(own["seqused_k"].tolist(), own["block_table"].tolist(), strict=True):
            begin = max(0, used - window) if window else 0
            rows = [pages[at // page_size] * page_size + at % page_size for at in range(begin, used)]
            seen[torch.tensor(rows, dtype=torch.int64, device=cache.device)] = True
    if isinstance(own.get("key_slots"), torch.Tensor):
        seen[own["key_slots"]] = True
    return seen


def _fill_with_garbage(cache: torch.Tensor, seen: torch.Tensor, generator: torch.Generator) -> None:
    """NaN, infinities and huge values in the rows that nobody reads, one kind a row; one in six stays."""
    huge = min(HUGE, torch.finfo(cache.dtype).max / 4)
    kinds = torch.tensor([float("nan"), float("nan"), float("inf"), -float("inf"), huge], device=cache.device)
    picked = torch.randint(0, len(kinds) + 1, seen.shape, generator=generator, device=cache.device)
    rows = (~seen & (picked < len(kinds))).nonzero().flatten()
    values = kinds[picked[rows]].to(cache.dtype)
    cache[rows // cache.shape[1], rows % cache.shape[1]] = values.view(-1, *[1] * (cache.dim() - 2))


def _spoil_padding(inputs: dict[str, Any], scenario: Scenario) -> None:
    """NaN in the rows of tokens that are padding."""
    padding = inputs[PREFIX + "slot_mapping"] < 0
    for spec in scenario.inputs:
        value = inputs[spec.name]
        if spec.values == "normal" and not spec.name.startswith(PREFIX) and value.shape[:1] == padding.shape:
            value[padding] = float("nan")
