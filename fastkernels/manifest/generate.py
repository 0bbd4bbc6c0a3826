"""Derives a manifest from model configs; the same configs give the same bytes."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError
from fastkernels.manifest.config import ModelConfig, read_config
from fastkernels.manifest.emit import manifest_lines
from fastkernels.manifest.families import ALL_OPERATORS
from fastkernels.manifest.operators import CLASSES, Draft, drafts
from fastkernels.manifest.shard import Shard, divides

TP_DEGREES = (1, 2, 4, 8)
"""TP degrees that entries are generated for, where a model's dimensions divide."""

HEADER = """\
# Scenarios of the {category} category: per-rank shapes of each operator, by model and tensor parallel degree.
# Generated; changes by hand are lost. Written by:  fastkernels generate-inputs{options}
# Format: docs/manifest.md
"""


def generate(
    configs: Iterable[ModelConfig], tps: Sequence[int] = TP_DEGREES, category: str = "llm", options: str = ""
) -> str:
    """Return the manifest's text for these models; `options` are the command's, for the header."""
    ordered = sorted(configs, key=lambda config: natural(config.name))
    _refuse_clashes(ordered)
    degrees = {config.name: [tp for tp in tps if divides(config, tp)] for config in ordered}
    _refuse_undivided(ordered, degrees, tps)
    shards = [Shard(config, tp) for config in ordered for tp in degrees[config.name]]
    manifest = {
        "schema_version": 1,
        "category": category,
        "models": {config.name: {"id": config.model_id, "tp": degrees[config.name]} for config in ordered},
        "operators": _operators(shards),
    }
    return HEADER.format(category=category, options=options) + "\n".join(manifest_lines(manifest)) + "\n"


def shipped_configs(directory: Path) -> list[ModelConfig]:
    """Read every config of a directory such as `manifests/models`; the file stem is the short name."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise ManifestError(f"{directory}: no model configs (*.json) here")
    return [read_config(file, name=file.stem) for file in files]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which `llama31-8b` comes before `llama31-70b`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _operators(shards: Sequence[Shard]) -> dict[str, Any]:
    """Group the entries of all models by operator; equal ones become one with several uses."""
    merged: dict[str, dict[str, dict[str, Any]]] = {op: {} for op in ALL_OPERATORS}
    for shard in shards:
        for draft in drafts(shard):
            entry = merged[draft.op].setdefault(_key(draft), _entry(draft))
            entry["uses"].append(shard.use)
    return {
        op: {"level": 1, "class": CLASSES[op], "scenarios": list(entries.values())}
        for op, entries in merged.items()
        if entries
    }


def _key(draft: Draft) -> str:
    return json.dumps([draft.variant, draft.tokens, dict(draft.init), dict(draft.inputs)], sort_keys=True)


def _entry(draft: Draft) -> dict[str, Any]:
    return {
        "uses": [],
        "tokens": list(draft.tokens),
        "variant": draft.variant,
        "init": dict(draft.init),
        "inputs": dict(draft.inputs),
    }


def _refuse_clashes(configs: Sequence[ModelConfig]) -> None:
    seen: dict[str, str] = {}
    for config in configs:
        if config.name in seen:
            raise ManifestError(f"models {seen[config.name]} and {config.model_id} have one short name: {config.name}")
        seen[config.name] = config.model_id


def _refuse_undivided(configs: Sequence[ModelConfig], degrees: dict[str, list[int]], tps: Sequence[int]) -> None:
    for config in configs:
        if not degrees[config.name]:
            listed = ", ".join(str(tp) for tp in tps)
            raise ManifestError(
                f"{config.model_id}: TP {listed}: does not divide {config.num_heads} heads, {config.num_kv_heads} KV "
                f"heads and an intermediate size of {config.intermediate_size}"
            )
