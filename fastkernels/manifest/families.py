"""Which model architectures inputs can be generated for, and how each differs from Llama; one row per architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Family:
    """How an architecture's blocks are built; the defaults describe a dense Llama."""

    attention: str = "llama_attention"
    """Operator of the attention block (level 2); empty where there is none yet."""
    mlp: str = "llama_mlp"
    """Operator of the dense MLP (level 2); empty for models without one."""
    moe: str = ""
    """Operator of the block of experts (level 2); empty for a dense model."""
    layer: str = "llama_decoder_layer"
    """Operator of the decoder layer (level 3); empty where there is none yet."""
    norm: str = "rms_norm"
    """Operator of the norms."""
    post_norms: bool = False
    """Attention and MLP are followed by norms of their own besides, and residuals are added outside of them."""
    qk_norm: bool = False
    """Query and key heads are normalised over head_dim before the rotary embedding."""
    sinks: bool = False
    """Every head has an attention sink, a logit without a value."""
    qkv_bias: bool | None = None
    """Whether qkv_proj has a bias; None: as the config's `attention_bias` says."""
    o_bias: bool | None = None
    """Whether o_proj has a bias; None: as the config's `attention_bias` says."""
    expert_bias: bool = False
    """Router and experts have biases."""
    experts_key: str = ""
    """Config key of the number of experts; empty for a dense model."""
    expert_size_key: str = "intermediate_size"
    """Config key of an expert's intermediate size."""
    expert_activation: str = ""
    """Operator of the experts' activation; empty: as the config's `hidden_act` says."""
    renormalize: bool | None = None
    """Whether the chosen experts' weights are scaled to sum to 1; None: as the config's `norm_topk_prob` says."""
    router: str = "gate"
    """Name of the router within the block of experts."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of the architecture's config class that its published configs leave out."""


_GEMMA3 = Family(
    attention="gemma3_attention",
    mlp="gemma3_mlp",
    layer="gemma3_decoder_layer",
    norm="gemma_rms_norm",
    post_norms=True,
    qk_norm=True,
    defaults={
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
)
_DEEPSEEK_V2 = Family(
    attention="deepseek_v2_attention",
    moe="deepseek_v2_moe",
    layer="deepseek_v2_decoder_layer",
    experts_key="n_routed_experts",
    expert_size_key="moe_intermediate_size",
    defaults={"scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False},
)
_DEEPSEEK_V3 = replace(
    _DEEPSEEK_V2, defaults={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True}
)

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(qkv_bias=False, o_bias=False),
    "Qwen2ForCausalLM": Family(attention="qwen2_attention", layer="qwen2_decoder_layer", qkv_bias=True, o_bias=False),
    "Qwen3ForCausalLM": Family(attention="qwen3_attention", layer="qwen3_decoder_layer", qk_norm=True),
    "MixtralForCausalLM": Family(
        mlp="",
        moe="mixtral_moe",
        layer="mixtral_decoder_layer",
        qkv_bias=False,
        o_bias=False,
        experts_key="num_local_experts",
        renormalize=True,
    ),
    "Qwen3MoeForCausalLM": Family(
        attention="qwen3_attention",
        mlp="",
        moe="qwen3_moe",
        layer="qwen3_moe_decoder_layer",
        qk_norm=True,
        experts_key="num_experts",
        expert_size_key="moe_intermediate_size",
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "GptOssForCausalLM": Family(
        attention="gpt_oss_attention",
        mlp="",
        moe="gpt_oss_moe",
        layer="gpt_oss_decoder_layer",
        sinks=True,
        qkv_bias=True,
        o_bias=True,
        expert_bias=True,
        experts_key="num_local_experts",
        expert_activation="swigluoai_and_mul",
        renormalize=True,
        router="router",
        defaults={"swiglu_alpha": 1.702},
    ),
    "DeepseekV2ForCausalLM": _DEEPSEEK_V2,
    "DeepseekV3ForCausalLM": _DEEPSEEK_V3,
}
"""Every supported `architectures` value."""
