"""What shapes depend on in a model's Hugging Face config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastkernels.manifest.families import Family


@dataclass(frozen=True)
class Layer:
    """One of the kinds of layer that a model has, by the first that is of this kind."""

    index: int
    """Its number."""
    window: int
    """Keys that a token sees, itself included; 0 where it sees all."""
    rope_parameters: Mapping[str, Any]
    """Its rotary embedding as transformers 5 writes it: rope_theta, rope_type and what that needs; empty: none."""
    experts: bool
    """Whether its MLP is a block of experts."""


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek)."""

    q_lora_rank: int
    """Width of the compressed query; 0 where the query is projected at once."""
    kv_lora_rank: int
    """Width of the compressed key and value, which is cached."""
    qk_nope_head_dim: int
    """Part of a query or key head without position."""
    qk_rope_head_dim: int
    """Part that is rotated; of the key one for all heads, cached too."""
    v_head_dim: int
    """Width of a value head."""


@dataclass(frozen=True)
class Routing:
    """How a block of experts chooses them."""

    num_experts: int
    """Experts; 0 for a dense model, and where no layer has the experts that the config counts."""
    top_k: int
    """Experts per token."""
    renormalize: bool
    """The chosen experts' weights are scaled to sum to 1."""
    grouped: bool = False
    """By DeepSeek's rule: scores, groups, scaling."""
    groups: int = 1
    """Groups of experts."""
    top_groups: int = 1
    """Groups that a token's experts come from."""
    scoring: str = "softmax"
    """`softmax` or `sigmoid`."""
    scale: float = 1.0
    """Factor of the weights."""
    corrected: bool = False
    """A bias is added to the scores for the choice."""
    num_shared: int = 0
    """Experts that every token uses besides."""


@dataclass(frozen=True)
class ModelConfig:
    """One model, unsharded."""

    name: str
    """Short name used in addresses."""
    model_id: str
    """Hugging Face id."""
    family: Family
    """How its blocks are built."""
    raw: Mapping[str, Any]
    """The text model's config with the family's defaults, less what no layer reads."""
    values: Mapping[str, Any] = field(compare=False)
    """The same with those keys too: what the model is built from."""
    layers: tuple[Layer, ...]
    """Its kinds of layer, in order."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the dense MLP; of one expert where there is none."""
    expert_size: int
    """Width of one expert; 0 for a dense model."""
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
    """Positions of the rotary table, those that scaling gives included."""
    rms_norm_eps: float
    """Epsilon of every norm."""
    attention_scale: float
    """Factor of the scores."""
    soft_cap: float
    """What tanh bounds the scaled scores by; 0 for none."""
    qk_norm: bool
    """Queries and keys are normalised before the rotary embedding."""
    activation: str
    """Operator of the activation: `silu_and_mul`, `gelu_and_mul`, or `gelu` without a gate."""
    approximate: str
    """`none` or `tanh` for gelu; empty for silu."""
    qkv_bias: bool
    """qkv_proj has a bias."""
    o_bias: bool
    """o_proj has a bias."""
    mlp_bias: bool
    """The projections of the dense MLP have a bias."""
    routing: Routing
    """Its experts."""
    latent: Latent | None
    """Latent attention, or None."""
    tie_word_embeddings: bool
    """lm_head shares the embedding's weight."""
    dtype: str
    """torch dtype name of weights and activations."""
    architecture: str = ""
    """Its class of level 4, as the config's `architectures` names it."""

    @property
    def has_dense_mlp(self) -> bool:
        """Whether any layer has an MLP without experts."""
        return any(not layer.experts for layer in self.layers)
