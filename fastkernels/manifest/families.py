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
    """Values of the architecture's config class in transformers for keys that a config leaves out."""

    model_types: tuple[str, ...] = ()
    """Values of `model_type` in its configs."""
    text_config: bool = False
    """The text model's config lies in `text_config`, beside what reads images."""
    reads: tuple[str, ...] = ()
    """Config keys that it reads besides keys.READ and those named in this row."""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Config keys with the only values that it is built for; None and what keys.ONLY has stand for themselves."""
    ignored: tuple[str, ...] = ()
    """Config keys that its class in transformers does not read though published configs have them; they are dropped."""
    activation_key: str = "hidden_act"
    """Config key of the activation."""
    activations: tuple[str, ...] = ("silu",)
    """Activations that its MLP is built for."""
    windows: str = ""
    """Which layers have a window of `sliding_window` keys. Empty: none. `all`: all, where the config gives a width.
    `flag`: all, with `use_sliding_window`. `last`: with that, those from `max_window_layers` on, or by `layer_types`.
    `types`: by `layer_types` or `sliding_window_pattern`."""
    pattern: int = 0
    """`types`: every so many-th layer sees all keys where the config says nothing."""
    rope_theta: float = 10000.0
    """Base of the rotary embedding where the config leaves it out."""
    rope: Mapping[str, Any] = field(default_factory=dict)
    """Rotary embedding where the config describes none."""
    rope_by_type: bool = False
    """`rope_parameters` holds one rotary embedding for each layer type."""
    partial_rotary: bool = False
    """A part of each head may be rotated: the config's `partial_rotary_factor` counts."""
    scaled_positions: bool = False
    """max_position_embeddings counts the rotary embedding's linear scaling already."""


WINDOW_KEYS = ("sliding_window", "use_sliding_window", "max_window_layers")
IMAGE_KEYS = (
    "boi_token_index", "eoi_token_index", "image_token_index", "image_token_id", "boi_token_id", "eoi_token_id",
    "mm_tokens_per_image", "vision_config",
)  # fmt: skip

ANY = Family(windows="last")
"""How a config is read whose `model_type` says nothing."""

_GEMMA3 = Family(
    attention="gemma3_attention",
    mlp="gemma3_mlp",
    layer="gemma3_decoder_layer",
    norm="gemma_rms_norm",
    post_norms=True,
    qk_norm=True,
    model_types=("gemma3_text", "gemma3"),
    reads=("attention_bias", "final_logit_softcapping", "query_pre_attn_scalar", "rope_local_base_freq",
           "sliding_window", "sliding_window_pattern"),
    ignored=("hidden_act", "_sliding_window_pattern"),
    activation_key="hidden_activation",
    activations=("gelu_pytorch_tanh",),
    windows="types",
    pattern=6,
    rope_theta=1000000.0,
    rope_by_type=True,
    scaled_positions=True,
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
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
)  # fmt: skip
_DEEPSEEK_V2 = Family(
    attention="deepseek_v2_attention",
    moe="deepseek_v2_moe",
    layer="deepseek_v2_decoder_layer",
    model_types=("deepseek_v2",),
    reads=("attention_bias", "first_k_dense_replace", "kv_lora_rank", "n_group", "n_shared_experts", "q_lora_rank",
           "qk_nope_head_dim", "qk_rope_head_dim", "routed_scaling_factor", "topk_group", "v_head_dim"),
    only={"topk_method": ("greedy", "group_limited_greedy"), "scoring_func": ("softmax",), "norm_topk_prob": (False,),
          "rope_interleave": (True,)},
    ignored=("aux_loss_alpha", "ep_size", "head_dim", "seq_aux", "qk_head_dim", *WINDOW_KEYS),
    experts_key="n_routed_experts",
    expert_size_key="moe_intermediate_size",
    defaults={"scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False, "n_shared_experts": 2,
              "first_k_dense_replace": 0, "q_lora_rank": 1536, "routed_scaling_factor": 1.0},
)  # fmt: skip
_DEEPSEEK_V3 = replace(
    _DEEPSEEK_V2,
    model_types=("deepseek_v3",),
    reads=(*_DEEPSEEK_V2.reads, "norm_topk_prob", "rope_interleave"),
    only={"topk_method": ("noaux_tc",), "scoring_func": ("sigmoid",)},
    defaults={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True, "n_shared_experts": 1,
              "first_k_dense_replace": 3, "q_lora_rank": 1536, "routed_scaling_factor": 2.5, "n_group": 8,
              "topk_group": 4},
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(
        model_types=("llama",), reads=("attention_bias", "mlp_bias"), ignored=WINDOW_KEYS
    ),
    "MistralForCausalLM": Family(
        qkv_bias=False,
        o_bias=False,
        model_types=("mistral",),
        reads=("sliding_window",),
        ignored=("use_sliding_window", "max_window_layers"),
        windows="all",
        defaults={"sliding_window": 4096, "num_key_value_heads": 8},
    ),
    "Qwen2ForCausalLM": Family(
        attention="qwen2_attention",
        layer="qwen2_decoder_layer",
        qkv_bias=True,
        o_bias=False,
        model_types=("qwen2",),
        reads=WINDOW_KEYS,
        windows="last",
        defaults={"num_key_value_heads": 32, "use_sliding_window": False, "max_window_layers": 28},
    ),
    "Qwen3ForCausalLM": Family(
        attention="qwen3_attention",
        layer="qwen3_decoder_layer",
        qk_norm=True,
        model_types=("qwen3",),
        only={"use_qk_norm": (True,)},
        reads=("attention_bias", *WINDOW_KEYS),
        windows="last",
        defaults={"head_dim": 128, "num_key_value_heads": 32, "use_sliding_window": False, "max_window_layers": 28},
    ),
    "MixtralForCausalLM": Family(
        mlp="",
        moe="mixtral_moe",
        layer="mixtral_decoder_layer",
        qkv_bias=False,
        o_bias=False,
        experts_key="num_local_experts",
        renormalize=True,
        model_types=("mixtral",),
        reads=("sliding_window",),
        ignored=("use_sliding_window", "max_window_layers"),
        windows="all",
        rope_theta=1000000.0,
        defaults={"num_key_value_heads": 8},
    ),
    "Qwen3MoeForCausalLM": Family(
        attention="qwen3_attention",
        moe="qwen3_moe",
        layer="qwen3_moe_decoder_layer",
        qk_norm=True,
        experts_key="num_experts",
        expert_size_key="moe_intermediate_size",
        model_types=("qwen3_moe",),
        only={"use_qk_norm": (True,)},
        # transformers reads no max_window_layers here; windows are in all layers or in none
        reads=("attention_bias", "decoder_sparse_step", "mlp_only_layers", "norm_topk_prob", *WINDOW_KEYS),
        windows="flag",
        defaults={"num_key_value_heads": 4, "norm_topk_prob": False, "use_sliding_window": False},
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": replace(_GEMMA3, text_config=True, ignored=(*_GEMMA3.ignored, *IMAGE_KEYS)),
    "GptOssForCausalLM": Family(
        attention="gpt_oss_attention",
        mlp="",
        moe="gpt_oss_moe",
        layer="gpt_oss_decoder_layer",
        sinks=True,
        expert_bias=True,
        experts_key="num_local_experts",
        expert_activation="swigluoai_and_mul",
        renormalize=True,
        router="router",
        model_types=("gpt_oss",),
        # the last two repeat num_experts_per_tok and rope_scaling's original length
        reads=("attention_bias", "sliding_window", "swiglu_alpha", "swiglu_limit", "experts_per_token",
               "initial_context_length"),
        windows="types",
        pattern=2,
        rope_theta=150000.0,
        rope={"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
              "original_max_position_embeddings": 4096},
        defaults={"swiglu_alpha": 1.702, "swiglu_limit": 7.0, "attention_bias": True, "head_dim": 64,
                  "sliding_window": 128, "num_key_value_heads": 8},
    ),
    "DeepseekV2ForCausalLM": _DEEPSEEK_V2,
    "DeepseekV3ForCausalLM": _DEEPSEEK_V3,
}  # fmt: skip
"""Every supported `architectures` value."""
