"""Reads a model's Hugging Face config.json and keeps what shapes depend on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError, one_of
from fastkernels.manifest.families import FAMILIES, Family

ACTIVATIONS = {
    "silu": ("silu_and_mul", ""),
    "gelu": ("gelu_and_mul", "none"),
    "gelu_pytorch_tanh": ("gelu_and_mul", "tanh"),
}
"""Config names of activations -> (operator, its `approximate` argument)."""

ROPE_TYPES = ("default", "llama3")
DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class ModelConfig:
    """One model, unsharded."""

    name: str
    """Short name used in addresses."""
    model_id: str
    """Hugging Face id."""
    family: Family
    """How its blocks are built."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the MLP, or of one expert."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads."""
    head_dim: int
    """Width of a head."""
    rotary_dim: int
    """Leading elements of a head that are rotated."""
    vocab_size: int
    """Entries of the vocabulary."""
    max_position_embeddings: int
    """Positions of the rotary table."""
    rms_norm_eps: float
    """Epsilon of every norm."""
    rope_theta: float
    """Base of the rotary frequencies."""
    rope_scaling: Mapping[str, Any] | None
    """Hugging Face rope_scaling of type llama3, or None."""
    activation: str
    """Operator of the gated activation: `silu_and_mul` or `gelu_and_mul`."""
    approximate: str
    """`none` or `tanh` for gelu; empty for silu."""
    qkv_bias: bool
    """qkv_proj has a bias."""
    o_bias: bool
    """o_proj has a bias."""
    mlp_bias: bool
    """gate_up_proj and down_proj have a bias."""
    num_experts: int
    """Experts; 0 for a dense model."""
    top_k: int
    """Experts per token; 0 for a dense model."""
    renormalize: bool
    """The chosen experts' weights are scaled to sum to 1."""
    tie_word_embeddings: bool
    """lm_head shares the embedding's weight."""
    dtype: str
    """torch dtype name of weights and activations."""


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
    family = _family(data, source)
    text = data.get("text_config")
    merged = {**family.defaults, **data, **(text if isinstance(text, Mapping) else {})}
    return _Reader(merged, source, family).read(name, model_id)


def _family(data: Mapping[str, Any], source: str) -> Family:
    architectures = data.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise ManifestError(f"{source}: architectures: missing; supported are {', '.join(sorted(FAMILIES))}")
    for architecture in architectures:
        if architecture in FAMILIES:
            return FAMILIES[architecture]
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
        head_dim = self.size("head_dim", hidden // heads)
        attention_bias = bool(self.data.get("attention_bias"))
        operator, approximate = ACTIVATIONS[self.activation()]
        return ModelConfig(
            name=name,
            model_id=model_id,
            family=family,
            hidden_size=hidden,
            intermediate_size=self.size(family.expert_size_key),
            num_heads=heads,
            num_kv_heads=self.size("num_key_value_heads", heads),
            head_dim=head_dim,
            rotary_dim=int(head_dim * self.number("partial_rotary_factor", 1.0)),
            vocab_size=self.size("vocab_size"),
            max_position_embeddings=self.size("max_position_embeddings"),
            rms_norm_eps=self.number("rms_norm_eps"),
            rope_theta=self.number("rope_theta", self.rope.get("rope_theta", 10000.0)),
            rope_scaling=self.rope_scaling(),
            activation=operator,
            approximate=approximate,
            qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
            o_bias=attention_bias if family.o_bias is None else family.o_bias,
            mlp_bias=bool(self.data.get("mlp_bias")),
            num_experts=self.size(family.experts_key) if family.experts_key else 0,
            top_k=self.size("num_experts_per_tok") if family.experts_key else 0,
            renormalize=bool(self.data.get("norm_topk_prob")) if family.renormalize is None else family.renormalize,
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

    def rope_scaling(self) -> Mapping[str, Any] | None:
        """Return the llama3 scaling without the base, None for an unscaled rotary embedding."""
        kind = self.rope.get("rope_type", self.rope.get("type", "default"))
        if "rotary_emb" not in self.family.operators or kind == "default":
            return None
        if kind not in ROPE_TYPES:
            raise self.fail("rope_scaling.rope_type", one_of(kind, ROPE_TYPES))
        keys = ("rope_type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        for key in keys:
            if key not in self.rope and key != "rope_type":
                raise self.fail(f"rope_scaling.{key}", "missing; llama3 scaling needs it")
        return {"rope_type": kind, **{key: self.rope[key] for key in keys[1:]}}

    def refuse_unsupported(self) -> None:
        """Refuse what would make the generated shapes or values wrong for this model."""
        if self.data.get("quantization_config"):
            raise self.fail("quantization_config", "quantized models are not supported; use the unquantized config")
        windowed = self.data.get("sliding_window") and self.data.get("use_sliding_window", True)
        if windowed and "flash_attn_prefill" in self.family.operators:
            raise self.fail("sliding_window", f"{self.data['sliding_window']}: windowed attention is not supported")
        if self.data.get("mlp_only_layers") or self.data.get("decoder_sparse_step", 1) != 1:
            raise self.fail("mlp_only_layers", "models that mix dense and expert layers are not supported")
