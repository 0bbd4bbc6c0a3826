"""Which model architectures inputs can be generated for, and how each differs from Llama; one row per architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALL_OPERATORS = (
    "rms_norm",
    "silu_and_mul",
    "gelu_and_mul",
    "rotary_emb",
    "linear",
    "embedding",
    "topk_softmax",
    "store_kvcache",
    "flash_attn_prefill",
    "flash_attn_decode",
)
"""Operators that entries are generated for, in the order of the manifest."""


@dataclass(frozen=True)
class Family:
    """How an architecture's blocks are built; the defaults describe a dense Llama."""

    qk_norm: bool = False
    """Query and key heads are normalised by an RMSNorm over head_dim before the rotary embedding."""
    qkv_bias: bool | None = None
    """Whether qkv_proj has a bias; None: as the config's `attention_bias` says."""
    o_bias: bool | None = None
    """Whether o_proj has a bias; None: as the config's `attention_bias` says."""
    experts_key: str = ""
    """Config key of the number of experts; empty for a dense model."""
    expert_size_key: str = "intermediate_size"
    """Config key of an expert's intermediate size."""
    renormalize: bool | None = None
    """Whether the chosen experts' weights are scaled to sum to 1; None: as the config's `norm_topk_prob` says."""
    operators: tuple[str, ...] = ALL_OPERATORS
    """Operators that entries are generated for."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of the architecture's config class that its published configs leave out."""


_GEMMA3 = Family(
    qk_norm=True,
    # Gemma's norm weight is an offset from 1, its rotary bases differ by layer and most layers attend to a window:
    # operators of their own, which are not here yet.
    operators=("gelu_and_mul", "linear", "embedding"),
    defaults={
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": True,
    },
)

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(qkv_bias=False, o_bias=False),
    "Qwen2ForCausalLM": Family(qkv_bias=True, o_bias=False),
    "Qwen3ForCausalLM": Family(qk_norm=True),
    "MixtralForCausalLM": Family(qkv_bias=False, o_bias=False, experts_key="num_local_experts", renormalize=True),
    "Qwen3MoeForCausalLM": Family(
        qk_norm=True, experts_key="num_experts", expert_size_key="moe_intermediate_size", renormalize=None
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
}
"""Every supported `architectures` value."""
