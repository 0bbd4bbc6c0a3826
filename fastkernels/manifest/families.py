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
    qk_norm: bool | None = False
    """Queries and keys are normalised before the rotary embedding; None: as the config's `use_qk_norm` says."""
    whole_qk_norm: bool = False
    """That over all heads at once; else each head over head_dim."""
    stream: bool = False
    """Layers add to the residual stream themselves: no residual is passed beside it, and none is fused into norms."""
    gated: bool = True
    """The MLP has a gate: an activation of two halves of one projection."""
    sinks: bool = False
    """Every head has an attention sink, a logit without a value."""
    bias_key: str = "attention_bias"
    """Config key of the biases of attention."""
    mlp_bias_key: str = "mlp_bias"
    """Config key of the biases of the dense MLP."""
    qkv_bias: bool | None = None
    """Whether qkv_proj has a bias; None: as the config's `bias_key` says."""
    o_bias: bool | None = None
    """Whether o_proj has a bias; None: as the config's `bias_key` says."""
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
    eps_key: str = "rms_norm_eps"
    """Config key of the norms' epsilon."""
    activation_key: str = "hidden_act"
    """Config key of the activation."""
    activations: tuple[str, ...] = ("silu",)
    """Activations that its MLP is built for."""
    windows: str = ""
    """Which layers have a window of `sliding_window` keys. Empty: none. `all`: all, where the config gives a width.
    `flag`: all, with `use_sliding_window`. `last`: with that, those from `max_window_layers` on, or by `layer_types`.
    `types`: by `layer_types` or `sliding_window_pattern`. `nope`: with `use_sliding_window` those without positions, or
    by `layer_types`."""
    pattern: int = 0
    """`types`: every so many-th layer sees all keys where the config says nothing."""
    nope_interval: int = 0
    """Every so many-th layer has no rotary embedding where the config says nothing; 0: all layers have one."""
    rope_types: tuple[str, ...] = ()
    """Kinds of rotary scaling that it is built for; empty: all that are known."""
    rope_theta: float = 10000.0
    """Base of the rotary embedding where the config leaves it out."""
    rope: Mapping[str, Any] = field(default_factory=dict)
    """Rotary embedding where the config describes none."""
    rope_by_type: bool = False
    """`rope_parameters` holds one rotary embedding for each layer type; `rope_scaling` is of those that see all."""
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

_GEMMA2 = Family(
    attention="gemma2_attention",
    mlp="gemma3_mlp",
    layer="gemma2_decoder_layer",
    norm="gemma_rms_norm",
    post_norms=True,
    model_types=("gemma2",),
    reads=("attention_bias", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar",
           "sliding_window"),
    # hidden_act stood for hidden_activation in the first release; sliding_window_size repeats sliding_window
    ignored=("hidden_act", "sliding_window_size"),
    activation_key="hidden_activation",
    activations=("gelu_pytorch_tanh",),
    windows="types",
    pattern=2,
    defaults={
        "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-06, "sliding_window": 4096,
        "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    },
)  # fmt: skip
_OLMO2 = Family(
    attention="olmo2_attention",
    layer="olmo2_decoder_layer",
    post_norms=True,
    qk_norm=True,
    whole_qk_norm=True,
    stream=True,
    model_types=("olmo2",),
    reads=("attention_bias",),
    ignored=WINDOW_KEYS,
)

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
    "Phi3ForCausalLM": Family(
        qkv_bias=False,
        o_bias=False,
        model_types=("phi3",),
        reads=("sliding_window",),
        # read for longrope alone
        ignored=("original_max_position_embeddings",),
        windows="all",
        # transformers takes `yarn` and `su` for longrope, which is not built, and refuses all others
        rope_types=("default",),
        partial_rotary=True,
    ),
    "GraniteForCausalLM": Family(
        attention="granite_attention",
        layer="granite_decoder_layer",
        stream=True,
        model_types=("granite",),
        reads=("attention_bias", "mlp_bias", "attention_multiplier", "embedding_multiplier", "residual_multiplier",
               "logits_scaling"),
        ignored=WINDOW_KEYS,
        defaults={"attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
                  "logits_scaling": 1.0},
    ),
    "SmolLM3ForCausalLM": Family(
        attention="smollm3_attention",
        layer="smollm3_decoder_layer",
        model_types=("smollm3",),
        reads=("attention_bias", "mlp_bias", "no_rope_layers", "no_rope_layer_interval", "sliding_window",
               "use_sliding_window"),
        ignored=("max_window_layers",),
        windows="nope",
        nope_interval=4,
        rope_theta=2000000.0,
        defaults={"num_key_value_heads": 4, "tie_word_embeddings": True},
    ),
    "Olmo2ForCausalLM": _OLMO2,
    "Olmo3ForCausalLM": replace(
        _OLMO2,
        model_types=("olmo3",),
        reads=("attention_bias", "sliding_window"),
        ignored=("use_sliding_window", "max_window_layers"),
        windows="types",
        pattern=4,
        rope_theta=500000.0,
        rope_by_type=True,
        defaults={"sliding_window": 4096},
    ),
    "Gemma2ForCausalLM": _GEMMA2,
    "Starcoder2ForCausalLM": Family(
        attention="starcoder2_attention",
        mlp="starcoder2_mlp",
        layer="starcoder2_decoder_layer",
        norm="layer_norm",
        stream=True,
        gated=False,
        bias_key="use_bias",
        mlp_bias_key="use_bias",
        model_types=("starcoder2",),
        reads=("sliding_window",),
        # the last two name what the class has no choice of
        ignored=("use_sliding_window", "max_window_layers", "embedding_dropout", "residual_dropout", "mlp_type",
                 "norm_type"),
        eps_key="norm_epsilon",
        activations=("gelu_pytorch_tanh",),
        windows="all",
        defaults={"num_key_value_heads": 2, "norm_epsilon": 1e-5, "use_bias": True, "tie_word_embeddings": True,
                  "hidden_act": "gelu_pytorch_tanh"},
    ),
    "Glm4MoeForCausalLM": Family(
        attention="glm4_moe_attention",
        moe="glm4_moe",
        layer="glm4_moe_decoder_layer",
        qk_norm=None,
        o_bias=False,
        experts_key="n_routed_experts",
        expert_size_key="moe_intermediate_size",
        model_types=("glm4_moe",),
        reads=("attention_bias", "first_k_dense_replace", "n_group", "n_shared_experts", "norm_topk_prob",
               "routed_scaling_factor", "topk_group", "use_qk_norm"),
        only={"topk_method": ("noaux_tc",), "scoring_func": ("sigmoid",)},
        ignored=WINDOW_KEYS,
        partial_rotary=True,
        defaults={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True, "n_shared_experts": 1,
                  "first_k_dense_replace": 1, "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1,
                  "num_key_value_heads": 8, "use_qk_norm": False, "partial_rotary_factor": 0.5},
    ),
}  # fmt: skip
"""Every supported `architectures` value."""
