"""Reads a model's Hugging Face config.json and keeps what shapes depend on."""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError, one_of
from fastkernels.manifest.config import Latent, Layer, ModelConfig, Routing
from fastkernels.manifest.families import FAMILIES, Family

ACTIVATIONS = {
    "silu": ("silu_and_mul", ""),
    "gelu": ("gelu_and_mul", "none"),
    "gelu_pytorch_tanh": ("gelu_and_mul", "tanh"),
}
"""Config names of activations -> (operator, its `approximate` argument)."""

ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}
"""Kinds of rotary scaling and what each needs."""

DTYPES = ("bfloat16", "float16", "float32")

UNREAD = (
    "_name_or_path", "_note", "architectures", "attention_dropout", "auto_map", "aux_loss_alpha", "bos_token_id",
    "cache_implementation", "dtype", "eos_token_id", "ep_size", "initializer_range", "num_nextn_predict_layers",
    "output_router_logits", "pad_token_id", "pretraining_tp", "router_aux_loss_coef", "seq_aux", "text_config",
    "torch_dtype", "transformers_version", "use_cache", "vision_config",
)  # fmt: skip
"""Keys of a config that no layer reads."""


def read_config(path: Path, name: str = "", model_id: str = "") -> ModelConfig:
    """Read a config.json, or the one in a directory; `name` and `model_id` default to what the file says."""
    file = path / "config.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{file}: no such model config") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ManifestError(f"{file}: a model config is a JSON object, found {type(data).__name__}")
    stem = file.resolve().parent.name if file.name == "config.json" else file.stem
    named = str(data.get("_name_or_path") or "")
    identity = model_id or (named if named and not named.startswith((".", "/")) else stem)
    return parse_config(data, str(file), name or short_name(stem), identity)


def short_name(model_id: str) -> str:
    """Return the short name of a hub id: `Qwen/Qwen2.5-7B-Instruct` -> `qwen25-7b`."""
    words = model_id.rsplit("/", 1)[-1].lower().replace(".", "").replace(" ", "-").split("-")
    return "-".join(word for word in words if word not in ("instruct", "it", "chat", "hf"))


def parse_config(data: Mapping[str, Any], source: str, name: str, model_id: str) -> ModelConfig:
    """Build a ModelConfig from config.json's content; ManifestError names `source` and the key."""
    architecture = _architecture(data, source)
    family = FAMILIES[architecture]
    text = data.get("text_config")
    merged = {**family.defaults, **data, **(text if isinstance(text, Mapping) else {})}
    return replace(_Reader(merged, source, family).read(name, model_id), architecture=architecture)


def _architecture(data: Mapping[str, Any], source: str) -> str:
    architectures = data.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise ManifestError(f"{source}: architectures: missing; supported are {', '.join(sorted(FAMILIES))}")
    for architecture in architectures:
        if architecture in FAMILIES:
            return str(architecture)
    raise ManifestError(f"{source}: architectures: {one_of(architectures[0], sorted(FAMILIES))}")


class _Reader:
    """Takes checked values out of one config."""

    def __init__(self, data: Mapping[str, Any], source: str, family: Family) -> None:
        self.data = data
        self.source = source
        self.family = family
        rope = data.get("rope_parameters") or data.get("rope_scaling") or {}  # v5 configs keep theta in rope_parameters
        self.rope: Mapping[str, Any] = rope if isinstance(rope, Mapping) else {}

    def read(self, name: str, model_id: str) -> ModelConfig:
        """Check every value and build the config."""
        self.refuse_unsupported()
        family = self.family
        heads = self.size("num_attention_heads")
        hidden = self.size("hidden_size")
        latent = self.latent()
        head_dim = self.size("head_dim", hidden // heads) if latent is None else latent.qk_rope_head_dim
        attention_bias = bool(self.data.get("attention_bias"))
        operator, approximate = ACTIVATIONS[self.activation()]
        routing = self.routing()
        expert_size = self.size(family.expert_size_key) if routing.num_experts else 0
        return ModelConfig(
            name=name,
            model_id=model_id,
            family=family,
            raw={key: value for key, value in sorted(self.data.items()) if key not in UNREAD},
            layers=self.layers(routing),
            hidden_size=hidden,
            intermediate_size=self.size("intermediate_size") if family.mlp else expert_size,
            expert_size=expert_size,
            num_heads=heads,
            num_kv_heads=self.size("num_key_value_heads", heads),
            head_dim=head_dim,
            rotary_dim=int(head_dim * self.number("partial_rotary_factor", 1.0)),
            vocab_size=self.size("vocab_size"),
            max_position_embeddings=self.size("max_position_embeddings"),
            rms_norm_eps=self.number("rms_norm_eps"),
            attention_scale=self.attention_scale(head_dim, latent),
            activation=operator,
            approximate=approximate,
            qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
            o_bias=attention_bias if family.o_bias is None else family.o_bias,
            mlp_bias=bool(self.data.get("mlp_bias")),
            routing=routing,
            latent=latent,
            tie_word_embeddings=bool(self.data.get("tie_word_embeddings")),
            dtype=self.dtype(),
        )

    def fail(self, key: str, problem: str) -> ManifestError:
        """Return the error in house form."""
        return ManifestError(f"{self.source}: {key}: {problem}")

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

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number; null and absent take the default."""
        value = self.data.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.fail(key, "missing; a number over 0 is needed")
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.fail(key, f"{value!r} is not a number over 0")
        return float(value)

    def activation(self) -> str:
        """Return the name of the gated activation."""
        key = "hidden_activation" if self.data.get("hidden_activation") else "hidden_act"
        value = self.data.get(key)
        if value not in ACTIVATIONS:
            raise self.fail(key, one_of(value, ACTIVATIONS))
        return str(value)

    def dtype(self) -> str:
        """Return the dtype's name; configs of transformers 5 call the key `dtype`."""
        key = "dtype" if self.data.get("dtype") else "torch_dtype"
        value = self.data.get(key)
        if value not in DTYPES:
            raise self.fail(key, one_of(value, DTYPES))
        return str(value)

    def latent(self) -> Latent | None:
        """Return the widths of latent attention, None for a model without."""
        if not self.data.get("kv_lora_rank"):
            return None
        names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return Latent(int(self.data.get("q_lora_rank") or 0), *(self.size(name) for name in names))

    def attention_scale(self, head_dim: int, latent: Latent | None) -> float:
        """Return the factor of the scores; DeepSeek's grows with the context that YaRN gives."""
        if latent is None:
            return float(self.number("query_pre_attn_scalar", float(head_dim)) ** -0.5)
        width, factor = latent.qk_nope_head_dim + latent.qk_rope_head_dim, float(self.rope.get("factor", 1.0))
        growth = 0.1 * float(self.rope.get("mscale_all_dim", 0.0)) * log(max(1.0, factor)) + 1.0
        return float(width**-0.5 * growth**2)

    def routing(self) -> Routing:
        """Return how experts are chosen."""
        family = self.family
        if not family.experts_key:
            return Routing(0, 0, False)
        # transformers 5 saves the count of some families under one common name
        common = self.data.get("num_local_experts")
        experts, top_k = self.size(family.experts_key, common), self.size("num_experts_per_tok")
        renormalize = bool(self.data.get("norm_topk_prob")) if family.renormalize is None else family.renormalize
        method = self.data.get("topk_method")
        if family.experts_key != "n_routed_experts":
            return Routing(experts, top_k, renormalize)
        return Routing(
            experts, top_k, renormalize, grouped=True,
            groups=1 if method == "greedy" else self.size("n_group", 1),
            top_groups=1 if method == "greedy" else self.size("topk_group", 1),
            scoring=str(self.data.get("scoring_func", "softmax")),
            scale=self.number("routed_scaling_factor", 1.0),
            corrected=method == "noaux_tc",
            num_shared=self.size("n_shared_experts", 1) if self.data.get("n_shared_experts") else 0,
        )  # fmt: skip

    def layers(self, routing: Routing) -> tuple[Layer, ...]:
        """Return the first layer of each kind."""
        kinds: dict[tuple[bool, bool], Layer] = {}
        first_experts = int(self.data.get("first_k_dense_replace") or 0)
        for index in range(self.size("num_hidden_layers", 1)):
            windowed, experts = self.is_windowed(index), bool(routing.num_experts) and index >= first_experts
            if (windowed, experts) not in kinds:
                window = self.size("sliding_window") if windowed else 0
                kinds[windowed, experts] = Layer(index, window, self.rope_parameters(windowed), experts)
        return tuple(kinds.values())

    def is_windowed(self, index: int) -> bool:
        """Return whether a layer sees a window only, by layer_types or what stood for them in older configs."""
        types = self.data.get("layer_types")
        if isinstance(types, list) and index < len(types):
            return bool(types[index] == "sliding_attention")
        pattern = self.data.get("sliding_window_pattern")
        if pattern:
            return (index + 1) % int(pattern) != 0
        used = self.data.get("sliding_window") and self.data.get("use_sliding_window", True)
        return bool(used) and index >= int(self.data.get("max_window_layers") or 0)

    def rope_parameters(self, windowed: bool) -> Mapping[str, Any]:
        """Return the rotary embedding of a kind of layer."""
        found = dict(self.rope)
        by_type = found.get("sliding_attention" if windowed else "full_attention")
        if isinstance(by_type, Mapping):
            found = dict(by_type)
        elif windowed and "rope_local_base_freq" in self.data:
            found = {"rope_theta": self.number("rope_local_base_freq")}
        kind = str(found.pop("rope_type", found.pop("type", "default")))
        found.pop("type", None)
        if kind not in ROPE_KEYS:
            raise self.fail("rope_scaling.rope_type", one_of(kind, ROPE_KEYS))
        theta = found.pop("rope_theta", None) or self.number("rope_theta", 10000.0)
        for key in ROPE_KEYS[kind]:
            if key not in found:
                raise self.fail(f"rope_scaling.{key}", f"missing; {kind} scaling needs it")
        return {"rope_theta": float(theta), "rope_type": kind, **({} if kind == "default" else found)}

    def refuse_unsupported(self) -> None:
        """Refuse what would make the generated shapes or values wrong for this model."""
        if self.data.get("quantization_config"):
            raise self.fail("quantization_config", "quantized models are not supported; use the unquantized config")
        if self.data.get("mlp_only_layers") or self.data.get("decoder_sparse_step", 1) != 1:
            raise self.fail("mlp_only_layers", "models that mix dense and expert layers so are not supported")
        if self.data.get("moe_layer_freq", 1) != 1:
            raise self.fail("moe_layer_freq", f"{self.data['moe_layer_freq']} is not 1, the one that is supported")
