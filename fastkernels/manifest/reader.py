"""Reads a model's Hugging Face config.json and keeps what shapes depend on; models are built from the same values."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError, one_of
from fastkernels.manifest import facts, keys, possible, rope
from fastkernels.manifest.config import Latent, Layer, ModelConfig, Routing
from fastkernels.manifest.published import Published, read_json, settle

ACTIVATIONS = {
    "silu": ("silu_and_mul", ""),
    "gelu": ("gelu_and_mul", "none"),
    "gelu_pytorch_tanh": ("gelu_and_mul", "tanh"),
}
"""Config names of activations -> (operator, its `approximate` argument)."""

DTYPES = ("bfloat16", "float16", "float32")
MOST_LAYERS = 10_000
UNREAD = ("architectures", "dtype", "torch_dtype")
"""Keys that models are built from and no layer reads."""


def read_config(path: Path, name: str = "", model_id: str = "") -> ModelConfig:
    """Read a config.json, or the one in a directory; `name` and `model_id` default to what the file says."""
    file = path / "config.json" if path.is_dir() else path
    data = read_json(file)
    stem = file.resolve().parent.name if file.name == "config.json" else file.stem
    named = str(data.get("_name_or_path") or "")
    identity = model_id or (named if named and not named.startswith((".", "/")) else stem)
    return parse_config(data, str(file), name or short_name(stem), identity)


def short_name(model_id: str) -> str:
    """Return the short name of a hub id: `Qwen/Qwen2.5-7B-Instruct` -> `qwen25-7b`.

    What a short name may not have divides words. ManifestError where nothing is left.
    """
    text = model_id.rsplit("/", 1)[-1].lower().replace(".", "")
    words = [word for word in re.split(r"[^a-z0-9_]+", text.lstrip("_")) if word]
    if not words:
        raise ManifestError(f"{model_id}: gives no short name: it has no letters a to z, digits or '_'; rename it")
    return "-".join([word for word in words if word not in ("instruct", "it", "chat", "hf")] or words)


def parse_config(data: Mapping[str, Any], source: str, name: str, model_id: str) -> ModelConfig:
    """Build a ModelConfig from config.json's content; ManifestError names `source` and the key."""
    published = settle(data, source)
    return replace(_Reader(published).read(name, model_id), architecture=published.architecture)


class _Reader:
    """Takes checked values out of one config."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.family = published.family
        self.data = dict(published.values)
        self.config = published.namespace

    def read(self, name: str, model_id: str) -> ModelConfig:
        """Check every value and build the config."""
        family = self.family
        heads, hidden = self.size("num_attention_heads"), self.size("hidden_size")
        if not self.data.get("head_dim") and hidden % heads:
            raise self.fail("num_attention_heads", f"{heads} does not divide hidden_size, {hidden}, and there is no "
                            "head_dim")  # fmt: skip
        latent, head_dim = self.latent(), self.size("head_dim", hidden // heads)
        self.check_rope()
        self.data["max_position_embeddings"] = self.positions()
        head_dim = head_dim if latent is None else latent.qk_rope_head_dim
        operator, approximate = ACTIVATIONS[self.activation()]
        attention_bias = self.flag(family.bias_key)
        routing, layers = self.routing(), self.layers()
        if not any(layer.experts for layer in layers):
            routing = Routing(0, 0, False)  # no layer has the experts that the config counts
        expert_size = self.size(family.expert_size_key) if routing.num_experts else 0
        found = ModelConfig(
            name=name,
            model_id=model_id,
            family=family,
            raw={key: value for key, value in sorted(self.data.items()) if key not in (*UNREAD, *keys.HARMLESS)},
            values=self.data,
            layers=layers,
            hidden_size=hidden,
            intermediate_size=self.size("intermediate_size") if family.mlp else expert_size,
            expert_size=expert_size,
            num_heads=heads,
            num_kv_heads=self.size("num_key_value_heads", heads),
            head_dim=head_dim,
            rotary_dim=facts.rotary_dim(self.config, head_dim),
            vocab_size=self.size("vocab_size"),
            max_position_embeddings=self.size("max_position_embeddings"),
            rms_norm_eps=self.number(family.eps_key),
            attention_scale=self.attention_scale(head_dim, latent),
            soft_cap=self.soft_cap(),
            qk_norm=self.flag("use_qk_norm") if family.qk_norm is None else family.qk_norm,
            activation=operator if family.gated else "gelu",
            approximate=approximate,
            qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
            o_bias=attention_bias if family.o_bias is None else family.o_bias,
            mlp_bias=self.flag(family.mlp_bias_key),
            routing=routing,
            latent=latent,
            tie_word_embeddings=self.flag("tie_word_embeddings"),
            dtype=self.dtype(),
        )
        for key, problem in possible.problems(found):
            raise self.fail(key, problem)
        return found

    def fail(self, key: str, problem: str) -> ManifestError:
        """Return the error in house form."""
        return ManifestError(f"{self.published.source}: {key}: {problem}")

    def size(self, key: str, default: int | None = None) -> int:
        """Return a whole number of at least 1; null and absent take the default."""
        value = self.data.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.fail(key, "missing; a whole number of at least 1 is needed")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.fail(key, f"{value!r} is not a whole number of at least 1")
        return value

    def count(self, key: str) -> int:
        """Return a whole number of at least 0; null and absent are 0."""
        return self.size(key) if self.data.get(key) else 0

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number; null and absent take the default."""
        value = self.data.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.fail(key, "missing; a number over 0 is needed")
        if not rope.is_number(value):
            raise self.fail(key, f"{value!r} is not a number over 0")
        return float(value)

    def flag(self, key: str) -> bool:
        """Return a truth value; null and absent are false."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.fail(key, f"{value!r} is not true or false")
        return bool(value)

    def activation(self) -> str:
        """Return the name of the gated activation."""
        key = self.family.activation_key
        value = self.data.get(key)
        if value is None:
            raise self.fail(key, f"missing; one of {', '.join(self.family.activations)} is needed")
        if value not in self.family.activations:
            raise self.fail(key, one_of(value, self.family.activations))
        return str(value)

    def dtype(self) -> str:
        """Return the dtype's name, bfloat16 where there is none; configs of transformers 5 call the key `dtype`."""
        key = "dtype" if self.data.get("dtype") else "torch_dtype"
        value = self.data.get(key) or "bfloat16"
        if value not in DTYPES:
            raise self.fail(key, one_of(value, DTYPES))
        return str(value)

    def latent(self) -> Latent | None:
        """Return the widths of latent attention, None for a family without."""
        if "kv_lora_rank" not in self.family.reads:
            return None
        names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return Latent(self.count("q_lora_rank"), *(self.size(name) for name in names))

    def check_rope(self) -> None:
        """Refuse a rotary embedding that is not read as transformers reads it."""
        for key, problem in rope.problems(self.data, self.family):
            raise self.fail(key, problem)

    def positions(self) -> int:
        """Return the positions that the model can be served at."""
        self.size("max_position_embeddings")
        self.check_layer_types()
        return facts.max_positions(self.config)

    def attention_scale(self, head_dim: int, latent: Latent | None) -> float:
        """Return the factor of the scores; DeepSeek's grows with the context that YaRN gives."""
        if "attention_multiplier" in self.family.reads:
            return self.number("attention_multiplier")
        if latent is None:
            return float(self.number("query_pre_attn_scalar", float(head_dim)) ** -0.5)
        return facts.latent_scale(latent.qk_nope_head_dim + latent.qk_rope_head_dim, facts.rope_parameters(self.config))

    def soft_cap(self) -> float:
        """Return the bound of the scores, 0 where there is none."""
        return self.number("attn_logit_softcapping") if self.data.get("attn_logit_softcapping") is not None else 0.0

    def routing(self) -> Routing:
        """Return how experts are chosen."""
        family = self.family
        if not family.experts_key:
            return Routing(0, 0, False)
        counts = {key: self.size(key) for key in facts.EXPERTS_KEYS if self.data.get(key) is not None}
        if len(set(counts.values())) != 1:
            listed = ", ".join(f"{key} {count}" for key, count in counts.items())
            raise self.fail(family.experts_key, f"{listed}: differ" if counts else "missing; a number of at least 1")
        experts, top_k = facts.num_experts(self.config), self.size("num_experts_per_tok")
        renormalize = self.flag("norm_topk_prob") if family.renormalize is None else family.renormalize
        method = self.data.get("topk_method")
        if family.experts_key != "n_routed_experts":
            return Routing(experts, top_k, renormalize)
        return Routing(
            experts, top_k, renormalize, grouped=True,
            groups=1 if method == "greedy" else self.size("n_group"),
            top_groups=1 if method == "greedy" else self.size("topk_group"),
            scoring=str(self.data["scoring_func"]),
            scale=self.number("routed_scaling_factor"),
            corrected=method == "noaux_tc",
            num_shared=self.count("n_shared_experts"),
        )  # fmt: skip

    def layers(self) -> tuple[Layer, ...]:
        """Return the first layer of each kind."""
        for key in ("first_k_dense_replace", "decoder_sparse_step"):
            self.count(key)
        only = self.data.get("mlp_only_layers")
        if only and not (isinstance(only, list) and all(isinstance(index, int) for index in only)):
            raise self.fail("mlp_only_layers", f"{only!r} is not a list of layers' numbers")
        self.check_no_rope_layers()
        kinds: dict[tuple[str, bool, bool], Layer] = {}
        for index in range(self.size("num_hidden_layers")):
            kind, experts = facts.layer_type(self.config, index), facts.has_experts(self.config, index)
            rotated = facts.has_positions(self.config, index)
            if (kind, experts, rotated) not in kinds:
                rope = facts.rope_parameters(self.config, index) if rotated else {}
                kinds[kind, experts, rotated] = Layer(
                    index, facts.sliding_window(self.config, index) or 0, rope, experts
                )
        return tuple(kinds.values())

    def check_no_rope_layers(self) -> None:
        """Refuse marks of layers without positions that are not one 0 or 1 a layer."""
        count, marks = self.size("num_hidden_layers"), self.data.get("no_rope_layers")
        if not self.family.nope_interval:
            return
        if marks is None:
            self.size("no_rope_layer_interval", 1)
        elif not isinstance(marks, list) or len(marks) < count or any(mark not in (0, 1) for mark in marks):
            raise self.fail("no_rope_layers", f"is not a list of 0 and 1 for {count} layers, as num_hidden_layers says")

    def check_layer_types(self) -> None:
        """Refuse layer types that the architecture does not have, and windows without a width."""
        count, types = self.size("num_hidden_layers"), self.data.get("layer_types")
        if count > MOST_LAYERS:
            raise self.fail("num_hidden_layers", f"{count} is over {MOST_LAYERS}, more than any model has")
        for key in ("max_window_layers", "sliding_window_pattern"):
            self.count(key)
        self.flag("use_sliding_window")
        if types is not None:
            if not isinstance(types, list) or len(types) != count:
                raise self.fail("layer_types", f"is not a list of {count} layers, as num_hidden_layers says")
            for index, kind in enumerate(types):
                if kind not in (facts.FULL, facts.SLIDING):
                    raise self.fail(f"layer_types[{index}]", one_of(kind, (facts.FULL, facts.SLIDING)))
        found = [facts.layer_type(self.config, index) for index in range(count)]
        if types and types != found:
            raise self.fail("layer_types", f"{self.published.architecture} does not read it, and has other layers: "
                            f"{', '.join(dict.fromkeys(found))}")  # fmt: skip
        if facts.SLIDING in found:
            self.size("sliding_window")
            if self.family.windows == "last" and not self.data.get("use_sliding_window"):
                raise self.fail("use_sliding_window", "not true, though layer_types has windows")
