"""The entries of level 4: whole models, cut in layers and not in widths, on the batches that their layers meet."""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError
from fastkernels.manifest import moe
from fastkernels.manifest.blocks import layer_parameters
from fastkernels.manifest.config import ModelConfig
from fastkernels.manifest.contexts import Batch, batches, positions
from fastkernels.manifest.cut import Cut, cut_model
from fastkernels.manifest.drafts import Alias, Context, Draft, Input, tensor
from fastkernels.manifest.scenario import Dim
from fastkernels.manifest.shard import Shard

TABLE = "model.embed_tokens.weight"
"""Weight of the embedding."""

LAYER = "model.layers.*."
"""Prefix of each layer's weights."""


@lru_cache(maxsize=1)
def model_classes() -> Mapping[str, str]:
    """Return the file stem of every class of level 4 that a config's `architectures` may name, by class."""
    spec = importlib.util.find_spec("fastkernels.tasks.baseline")
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError("fastkernels.tasks.baseline is not installed")
    files = sorted((Path(spec.submodule_search_locations[0]) / "L4").glob("[!_]*.py"))
    return {node.name: file.stem for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef) and "For" in node.name}  # fmt: skip


def operator_name(class_name: str) -> str:
    """Return `qwen3_moe_for_causal_lm` for Qwen3MoeForCausalLM."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()


def whole_model(shard: Shard, architecture: str) -> Iterator[Draft]:
    """The model of this architecture: hidden states of every token, logits of each sequence's last."""
    if shard.config.architecture != architecture:
        return
    cut = cut_model(shard.config)
    part = Shard(cut.config, shard.tp)
    widest = max(cut.config.layers, key=lambda layer: layer.window)
    for batch in batches(part, widest):
        inputs = {
            "input_ids": _ids(part, batch),
            "positions": positions(batch),
            "logits_indices": tensor(_sequences(batch), dtype="int64", values="last_tokens"),
        }
        yield Draft(operator_name(architecture), batch.tokens, {"config": Alias(cut.name)}, inputs, batch.variant,
                    _of_all_layers(batch.context, cut), _parameters(part, cut))  # fmt: skip


def cut_configs(configs: Mapping[str, ModelConfig]) -> dict[str, Mapping[str, Any]]:
    """Return the cut config of each model, by the name that entries refer to."""
    cuts = [cut_model(config) for config in configs.values() if config.architecture in model_classes()]
    return {cut.name: cut.raw for cut in cuts}


def _ids(shard: Shard, batch: Batch) -> Input:
    """Ids of the whole vocabulary, of which a rank holds a part; where experts are chosen, ids of that part alone."""
    config = shard.config
    local: dict[str, Any] = {"local": shard.vocab_size} if shard.tp > 1 else {}
    if not config.routing.num_experts:
        return tensor(batch.rows, dtype="int64", values="token_ids", vocab=config.vocab_size, **local)
    router = moe.router(shard, f"{LAYER}mlp.")
    choice = {key: router[key] for key in ("top_k", "groups", "top_groups") if key in router}
    return tensor(batch.rows, dtype="int64", values="routed_ids", vocab=config.vocab_size, **local, table=TABLE,
                  gates=router["gate"], norms=f"{LAYER}post_attention_layernorm.weight", **choice)  # fmt: skip


def _sequences(batch: Batch) -> Dim:
    """Sequences of a batch: those that decode and those of prompts."""
    values = batch.context.values
    decoding: Dim = values["block_table"]["shape"][0] if "block_table" in values else 0
    prompts = int(values["cu_seqlens_q"]["shape"][0]) - 1 if "cu_seqlens_q" in values else 0
    if isinstance(decoding, int):
        return decoding + prompts
    return f"{decoding}+{prompts}" if prompts else decoding


def _of_all_layers(context: Context, cut: Cut) -> Context:
    """The context of one layer with the caches of all of them."""
    values = {f"{name}s" if name.endswith("_cache") else name:
              {**spec, "shape": [cut.num_layers, *spec["shape"]]} if name.endswith("_cache") else spec
              for name, spec in context.values.items()}  # fmt: skip
    return Context(f"{context.name}_{cut.num_layers}layers", values)


def _parameters(shard: Shard, cut: Cut) -> int:
    """Weights at TP 1; a layer of unknown kind counts as the largest."""
    config = shard.config
    each = [layer_parameters(shard, layer) for layer in config.layers]
    tables = 1 if config.tie_word_embeddings else 2
    return tables * config.vocab_size * config.hidden_size + sum(each) + (cut.num_layers - len(each)) * max(each)
