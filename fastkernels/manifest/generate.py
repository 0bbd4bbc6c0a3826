"""Derives a manifest from model configs; the same configs give the same bytes."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError
from fastkernels.manifest.catalog import OPERATORS
from fastkernels.manifest.checks import MODEL_NAME, NAME_FORM
from fastkernels.manifest.config import ModelConfig
from fastkernels.manifest.drafts import Alias, Draft
from fastkernels.manifest.emit import manifest_lines
from fastkernels.manifest.models import cut_configs
from fastkernels.manifest.reader import read_config
from fastkernels.manifest.shard import Shard, divides

TP_DEGREES = (1, 2, 4, 8)
"""TP degrees that entries are generated for, where a model's dimensions divide."""

LEVELS = (1, 2, 3, 4)
"""Levels that entries are generated for."""

HEADER = """\
# Scenarios of the {category} category: per-rank shapes of each operator, by model and tensor parallel degree.
# Generated; changes by hand are lost. Written by:  fastkernels generate-inputs{options}
# Format: docs/manifest.md
"""


def generate(
    configs: Iterable[ModelConfig], tps: Sequence[int] = TP_DEGREES, category: str = "llm", options: str = "",
    levels: Sequence[int] = LEVELS,
) -> str:  # fmt: skip
    """Return the manifest's text for these models; `options` are the command's, for the header."""
    lines = manifest_lines(build_manifest(configs, tps, category, levels))
    return HEADER.format(category=category, options=options) + "\n".join(lines) + "\n"


def build_manifest(
    configs: Iterable[ModelConfig], tps: Sequence[int] = TP_DEGREES, category: str = "llm",
    levels: Sequence[int] = LEVELS,
) -> dict[str, Any]:  # fmt: skip
    """Return the manifest for these models as plain data, with `Alias` where its text refers to a mapping."""
    ordered = sorted(configs, key=lambda config: natural(config.name))
    _refuse_names(ordered)
    degrees = {config.name: [tp for tp in tps if divides(config, tp)] for config in ordered}
    _refuse_undivided(ordered, degrees, tps)
    shards = [Shard(config, tp) for config in ordered for tp in degrees[config.name]]
    contexts: dict[str, Any] = {}
    operators = _operators(shards, contexts, levels)
    if not operators:
        names = ", ".join(config.model_id for config in ordered)
        raise ManifestError(f"{names}: no operator of level {', '.join(map(str, levels))}; every model has level 1")
    used = {name for op in operators.values() for entry in op["scenarios"] for name in _aliases(entry["init"])}
    return {
        "schema_version": 1,
        "category": category,
        "models": {config.name: {"id": config.model_id, "tp": degrees[config.name]} for config in ordered},
        "configs": {name: dict(raw) for name, raw in _configs(ordered).items() if name in used},
        "contexts": dict(sorted(contexts.items(), key=lambda item: natural(item[0]))),
        "operators": operators,
    }


def shipped_configs(directory: Path) -> list[ModelConfig]:
    """Read every config of a directory such as `manifests/models`; the file stem is the short name."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise ManifestError(f"{directory}: no model configs (*.json) here")
    return [read_config(file, name=file.stem) for file in files]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which `llama31-8b` comes before `llama31-70b`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _operators(shards: Sequence[Shard], contexts: dict[str, Any], levels: Sequence[int]) -> dict[str, Any]:
    """Group the entries of all models by operator; equal ones become one with several uses. Fills `contexts`."""
    found: dict[str, Any] = {}
    for op, operator in OPERATORS.items():
        if operator.level not in levels:
            continue
        entries: dict[str, dict[str, Any]] = {}
        for shard in shards:
            for draft in operator.rule(shard):
                if draft.context is not None:
                    contexts[draft.context.name] = draft.context.values
                entries.setdefault(_key(draft), _entry(draft))["uses"].append(shard.use)
        if entries:
            found[op] = {"level": operator.level, "module": operator.module or op, "class": operator.class_name,
                         "scenarios": list(entries.values())}  # fmt: skip
    return found


def _key(draft: Draft) -> str:
    context = draft.context.name if draft.context else ""
    return json.dumps([draft.variant, draft.tokens, dict(draft.init), context, dict(draft.inputs)], sort_keys=True)


def _entry(draft: Draft) -> dict[str, Any]:
    return {
        "uses": [],
        "tokens": list(draft.tokens),
        "variant": draft.variant,
        "parameters": draft.parameters,
        "init": dict(draft.init),
        "context": Alias(draft.context.name) if draft.context else "",
        "inputs": dict(draft.inputs),
    }


def _configs(configs: Sequence[ModelConfig]) -> dict[str, Mapping[str, Any]]:
    """The configs that entries may refer to: whole ones, then cut ones."""
    return {**{config.name: config.raw for config in configs}, **cut_configs({c.name: c for c in configs})}


def _aliases(init: Mapping[str, Any]) -> list[str]:
    return [value for value in init.values() if isinstance(value, Alias)]


def _refuse_names(configs: Sequence[ModelConfig]) -> None:
    seen: dict[str, str] = {}
    for config in configs:
        if not MODEL_NAME.fullmatch(config.name):
            raise ManifestError(f"{config.model_id}: {config.name!r}: {NAME_FORM}")
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
