"""Configs as they are published, at tiny sizes: some that are read, and some that must be refused."""

import json
from typing import Any

from fastkernels.manifest.loader import manifests_directory

Config = dict[str, Any]

FULL, WINDOW = "full_attention", "sliding_attention"
SIZES: Config = {
    "vocab_size": 99, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "torch_dtype": "float32",
    "hidden_act": "silu",
}  # fmt: skip
LATENT: Config = {
    "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
}  # fmt: skip
BASES: dict[str, Config] = {
    "llama": {"architectures": ["LlamaForCausalLM"]},
    "mistral": {"architectures": ["MistralForCausalLM"]},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"]},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 32},
    "qwen3_moe": {"architectures": ["Qwen3MoeForCausalLM"], "head_dim": 32, "num_experts": 16, "num_experts_per_tok": 4,
                  "moe_intermediate_size": 48},
    "mixtral": {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2},
    "gemma3_text": {"architectures": ["Gemma3ForCausalLM"], "num_hidden_layers": 7, "head_dim": 32,
                    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 20, "sliding_window": 12},
    "gpt_oss": {"architectures": ["GptOssForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 3,
                "sliding_window": 12, "head_dim": 16},
    "deepseek_v2": {"architectures": ["DeepseekV2ForCausalLM"], **LATENT},
    "deepseek_v3": {"architectures": ["DeepseekV3ForCausalLM"], **LATENT, "n_group": 4, "topk_group": 2},
    "phi3": {"architectures": ["Phi3ForCausalLM"], "pad_token_id": None},
    # divided by 16, logits of this width hardly differ
    "granite": {"architectures": ["GraniteForCausalLM"], "logits_scaling": 2.0},
    "smollm3": {"architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 4, "pad_token_id": None},
    "olmo2": {"architectures": ["Olmo2ForCausalLM"]},
    "olmo3": {"architectures": ["Olmo3ForCausalLM"], "num_hidden_layers": 4, "sliding_window": 12},
    "gemma2": {"architectures": ["Gemma2ForCausalLM"], "head_dim": 32, "hidden_activation": "gelu_pytorch_tanh",
               "query_pre_attn_scalar": 20, "sliding_window": 12},
    "starcoder2": {"architectures": ["Starcoder2ForCausalLM"], "hidden_act": "gelu_pytorch_tanh"},
    "glm4_moe": {"architectures": ["Glm4MoeForCausalLM"], "head_dim": 32, "n_routed_experts": 16,
                 "num_experts_per_tok": 4, "moe_intermediate_size": 48},
}  # fmt: skip
"""By model_type."""

YARN: Config = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3: Config = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 32}  # fmt: skip
IMAGES: Config = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
UNREAD = ("_name_or_path", "_note", "pad_token_id")
"""Keys that differ between models of one kind."""
ABSENT = object()
"""Takes a key out."""


def config(kind: str, **changes: Any) -> Config:
    """The config of this model_type with changes."""
    found = {"model_type": kind, **SIZES, **BASES[kind], **changes}
    return {key: value for key, value in found.items() if value is not ABSENT}


READ: dict[str, Config] = {
    # what families leave out or add
    "phi3-partial": config("phi3", partial_rotary_factor=0.5, original_max_position_embeddings=64),
    "granite-bare": config("granite", sliding_window=12, logits_scaling=4),
    "smollm3-bare": config("smollm3"),
    "smollm3-own-places": config("smollm3", no_rope_layers=[0, 1, 1, 0]),
    "smollm3-windows": config("smollm3", use_sliding_window=True, sliding_window=12, no_rope_layer_interval=2,
                              max_window_layers=1),
    "olmo2-window": config("olmo2", sliding_window=12, attention_bias=True),
    "olmo3-bare": config("olmo3", rope_scaling={**YARN, "rope_type": "yarn"}, rope_theta=5e5),
    "gemma2-bare": config("gemma2", sliding_window_size=13),
    "gemma2-small-caps": config("gemma2", attn_logit_softcapping=1.0, final_logit_softcapping=None,
                                layer_types=[FULL, FULL, WINDOW]),
    "starcoder2-bare": config("starcoder2", hidden_act=ABSENT, use_sliding_window=False),
    "starcoder2-window": config("starcoder2", sliding_window=12, use_bias=False, norm_epsilon=0.1),
    "glm4-bare": config("glm4_moe", n_group=ABSENT),
    "glm4-norms": config("glm4_moe", use_qk_norm=True, partial_rotary_factor=0.25, routed_scaling_factor=2.5,
                         attention_bias=True, first_k_dense_replace=2),
    # windows
    "llama-with-window": config("llama", sliding_window=12, use_sliding_window=True, max_window_layers=0),
    "qwen2-window-no-use": config("qwen2", sliding_window=12, max_window_layers=1),
    "qwen2-window-in-28-layers-on": config("qwen2", use_sliding_window=True, sliding_window=12, num_hidden_layers=30),
    "qwen2-window-by-type": config("qwen2", use_sliding_window=True, sliding_window=12,
                                   layer_types=[WINDOW, FULL, WINDOW]),
    "qwen3-window-no-use": config("qwen3", sliding_window=12, max_window_layers=1),
    "qwen3-window": config("qwen3", use_sliding_window=True, sliding_window=12, max_window_layers=1),
    "qwen3-moe-window": config("qwen3_moe", use_sliding_window=True, sliding_window=12, max_window_layers=1),
    "qwen3-moe-window-no-use": config("qwen3_moe", sliding_window=12),
    "mistral-window": config("mistral", sliding_window=12, num_key_value_heads=ABSENT, num_attention_heads=8),
    "mistral-no-window": config("mistral", sliding_window=None, num_attention_heads=8, num_key_value_heads=8),
    "mixtral-window": config("mixtral", sliding_window=12, use_sliding_window=False),
    "gemma3-pattern": config("gemma3_text", sliding_window_pattern=2, rope_theta=1e6, rope_local_base_freq=500.0),
    "gemma3-bare": config("gemma3_text", rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "gemma3-by-type": config("gemma3_text", layer_types=[FULL, *[WINDOW] * 6], final_logit_softcapping=5.0,
                             rope_parameters={FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
                                              WINDOW: {"rope_type": "default", "rope_theta": 500.0}}),
    "gpt-oss-bare": config("gpt_oss"),
    "gpt-oss-by-type": config("gpt_oss", layer_types=[FULL, WINDOW, WINDOW], rope_scaling=None, attention_bias=False),
    # rotary embeddings, past the length that is scaled
    "yarn": config("qwen2", max_position_embeddings=32, rope_theta=1e6, rope_scaling=YARN, sliding_window=131072,
                   use_sliding_window=False),
    "yarn-of-transformers-5": config("qwen3", max_position_embeddings=32, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e6, "mscale": 0.7,
        "beta_fast": 16, "beta_slow": None}),
    "linear": config("llama", max_position_embeddings=32, rope_scaling={"type": "linear", "factor": 4.0}),
    "linear-of-transformers-5": config("llama", max_position_embeddings=64, dtype="float32", torch_dtype=ABSENT,
                                       rope_parameters={"rope_type": "linear", "factor": 2, "rope_theta": 5e5}),
    "llama3": config("llama", rope_theta=5e5, rope_scaling=LLAMA3),
    "two-names-of-one-type": config("mistral", sliding_window=None,
                                    rope_scaling={"type": "linear", "rope_type": "linear", "factor": 2.0}),
    # what a config leaves out
    "no-model-type": config("llama", model_type=None, sliding_window=12),
    "llama-bare": config("llama", num_key_value_heads=ABSENT, head_dim=None, rope_scaling=None),
    "qwen3-moe-some-dense": config("qwen3_moe", decoder_sparse_step=2, mlp_only_layers=[1], num_hidden_layers=4),
    "mixtral-base-of-its-own": config("mixtral", num_experts=8),
    "deepseek-v2-bare": config("deepseek_v2", first_k_dense_replace=ABSENT),
    "deepseek-v2-groups": config("deepseek_v2", topk_method="group_limited_greedy", n_group=4, topk_group=2,
                                 q_lora_rank=None, n_shared_experts=1, attention_bias=True),
    "deepseek-v3-bare": config("deepseek_v3", num_hidden_layers=4, first_k_dense_replace=ABSENT, n_group=ABSENT,
                               topk_group=ABSENT),
    "deepseek-v3-epsilon": config("deepseek_v3", rms_norm_eps=1e-2, attention_bias=True),
    "deepseek-v3-yarn": config("deepseek_v3", max_position_embeddings=128, rope_interleave=False, rope_scaling={
        **YARN, "beta_fast": 1.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}),
    # layers without the experts that the config counts
    "deepseek-v2-all-dense": config("deepseek_v2", first_k_dense_replace=4, n_shared_experts=2),
    "deepseek-v3-all-dense": config("deepseek_v3", first_k_dense_replace=3),
    "glm4-all-dense": config("glm4_moe", first_k_dense_replace=3),
    "qwen3-moe-all-dense": config("qwen3_moe", mlp_only_layers=[0, 1, 2]),
    "qwen3-moe-steps-beyond": config("qwen3_moe", decoder_sparse_step=4),
    # keys that change nothing
    "neutral-keys": config(
        "llama", attention_multiplier=None, logits_scaling=1.0, residual_multiplier=1, is_causal=True,
        no_rope_layers=[], attn_logit_softcapping=None, quantization_config=None, use_bidirectional_attention=False,
        partial_rotary_factor=1.0, num_local_experts=0, layer_types=[FULL] * 3, transformers_version="4.50.0",
        id2label={"0": "a"}, temperature=0.6, auto_map={}, never_heard_of=None,
    ),
}  # fmt: skip
"""Configs that are read as transformers reads them."""

KEYS: dict[str, Config] = {
    "llama": {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"},
              "max_sequence_length": 2048, "pretraining_tp": 1, "unsloth_fixed": True},
    "mistral": {"sliding_window": 32768, "_attn_implementation_autoset": True, "tokenizer_class": "LlamaTokenizer"},
    "qwen2": {"use_mrope": False, "classifier_dropout": 0.1, "id2label": {"0": "yes"}, "label2id": {"yes": 0}},
    "qwen3_moe": {"qkv_bias": False, "use_qk_norm": True, "shared_expert_intermediate_size": 0, "rope_scaling": None},
    "mixtral": {"router_jitter_noise": 0.0, "router_aux_loss_coef": 0.02, "output_router_logits": False},
    "gemma3_text": {"cache_implementation": "hybrid", "final_logit_softcapping": None, "attn_logit_softcapping": None,
                    "_sliding_window_pattern": 6, "use_bidirectional_attention": False},
    "gpt_oss": {"experts_per_token": 3, "initial_context_length": 4096, "swiglu_limit": 7.0},
    "deepseek_v3": {"auto_map": {"AutoConfig": "c.C"}, "aux_loss_alpha": 0.001, "seq_aux": True, "ep_size": 1,
                    "num_nextn_predict_layers": 1, "moe_layer_freq": 1, "scoring_func": "sigmoid",
                    "topk_method": "noaux_tc", "head_dim": 64, "qk_head_dim": 24},
}  # fmt: skip
"""What else published configs of a family have; it changes nothing."""

REFUSED: dict[str, tuple[Config, str]] = {
    "soft-capped-scores": (config("gemma3_text", attn_logit_softcapping=50.0),
                           "attn_logit_softcapping: 50.0 is not None"),
    "soft-capped-logits": (config("llama", final_logit_softcapping=30.0), "final_logit_softcapping: 30.0 is not None"),
    "both-directions": (config("qwen2", is_causal=False), "is_causal: False is not True"),
    "both-directions-in-windows": (config("gemma3_text", use_bidirectional_attention=True),
                                   "use_bidirectional_attention: True is not False"),
    "quantized-by-mlx": (config("llama", quantization={"bits": 4}), "quantization: quantized models are not supported"),
    "quantized": (config("qwen3", quantization_config={"bits": 4}), "quantization_config: quantized models are not"),
    "compressed": (config("qwen3", compression_config={"bits": 4}), "compression_config: quantized models are not"),
    "attention-multiplier": (config("llama", attention_multiplier=0.01), "attention_multiplier: 0.01 is not None"),
    "logits-scaling": (config("llama", logits_scaling=8.0), "logits_scaling: 8.0 is not 1.0"),
    "layers-without-rope": (config("llama", no_rope_layers=[1, 1, 0]), "no_rope_layers: [1, 1, 0] is not None"),
    "qkv-bias-of-mistral": (config("mistral", attention_bias=True), "attention_bias: True is not False"),
    "misspelt": (config("llama", rope_thetas=5e5),
                 "rope_thetas: 500000.0: LlamaForCausalLM does not read this key, and "
                 "it is not known to be harmless. Did you mean 'rope_theta'?"),
    "of-another-family": (config("llama", norm_topk_prob=True), "norm_topk_prob: True: LlamaForCausalLM does not read "
                          "this key, and it is not known to be harmless; it is a key of DeepseekV2ForCausalLM, "),
    "experts-of-a-dense-family": (config("llama", num_local_experts=8), "num_local_experts: 8 is not 0"),
    "two-classes": (config("llama", model_type="mistral"), "model_type: 'mistral' is not 'llama'"),
    # rotary embeddings
    "factor-null": (config("llama", rope_scaling={"type": "linear", "factor": None}),
                    "rope_scaling.factor: None is not a number over 0"),
    "factor-zero": (config("qwen2", rope_scaling={**YARN, "factor": 0}),
                    "rope_scaling.factor: 0 is not a number over 0"),
    "factor-true": (config("qwen2", rope_scaling={**YARN, "factor": True}),
                    "rope_scaling.factor: True is not a number"),
    "factor-infinite": (config("qwen2", rope_scaling={**YARN, "factor": float("inf")}),
                        "rope_scaling.factor: inf is not"),
    "factor-missing": (config("llama", rope_scaling={"type": "linear"}),
                       "rope_scaling.factor: missing; linear scaling"),
    "band-upside-down": (config("llama", rope_scaling={**LLAMA3, "high_freq_factor": 1.0}),
                         "rope_scaling.high_freq_factor: 1.0 is not over low_freq_factor, 1.0"),
    "original-length-a-text": (config("llama", rope_scaling={**LLAMA3, "original_max_position_embeddings": "8192"}),
                               "rope_scaling.original_max_position_embeddings: '8192' is not a whole number"),
    "longrope": (config("llama", rope_scaling={"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}),
                 "rope_scaling.rope_type: 'longrope' is not one of default, linear, llama3, yarn"),
    "dynamic": (config("llama", rope_scaling={"type": "dynamic", "factor": 2.0}),
                "rope_scaling.rope_type: 'dynamic' is "),
    "mrope": (config("qwen2", rope_scaling={"type": "mrope", "mrope_section": [4, 2, 2]}), "rope_type: 'mrope' is not"),
    "mrope-as-default": (config("qwen2", rope_scaling={"rope_type": "default", "mrope_section": [4, 2, 2]}),
                         "rope_scaling.mrope_section: [4, 2, 2]: default scaling does not read this key"),
    "two-types": (config("qwen2", rope_scaling={"rope_type": "default", "type": "mrope"}),
                  "rope_scaling.type: 'mrope' is "),
    "yarn-of-unknown-keys": (config("qwen2", rope_scaling={**YARN, "extrapolation_factor": 2.0}),
                             "rope_scaling.extrapolation_factor: 2.0: yarn scaling does not read this key"),
    "one-mscale": (config("deepseek_v3", rope_scaling={**YARN, "mscale_all_dim": 0.7}),
                   "rope_scaling.mscale_all_dim: 0.7 beside mscale None: give both, or neither"),
    "a-part-of-each-head": (config("llama", rope_parameters={"rope_type": "linear", "factor": 2.0,
                                                             "partial_rotary_factor": 0.25}),
                            "rope_parameters.partial_rotary_factor: 0.25: this architecture rotates whole heads"),
    "a-part-of-each-head-v4": (config("qwen3", partial_rotary_factor=0.5), "partial_rotary_factor: 0.5 is not 1.0"),
    "by-type": (config("llama", rope_parameters={FULL: {"rope_theta": 1e4}}),
                "rope_parameters: one rotary embedding for "
                "each layer type is not what this architecture has"),
    "not-by-type": (config("gemma3_text", rope_parameters={"rope_type": "default"}),
                    "rope_parameters: has one rotary "),
    "two-ropes": (config("llama", rope_scaling=LLAMA3, rope_parameters={"rope_type": "default"}),
                  "rope_scaling: rope_parameters is given besides, and differs"),
    "a-list": (config("llama", rope_scaling=[4.0]), "rope_scaling: found list, it is a JSON object"),
    "no-base": (config("llama", rope_theta=0), "rope_theta: 0 is not a number over 0"),
    # layers
    "too-few-types": (config("qwen2", layer_types=[FULL]), "layer_types: is not a list of 3 layers"),
    "a-type-of-another-model": (config("qwen3", layer_types=[FULL, FULL, "chunked_attention"]),
                                "layer_types[2]: 'chunked_attention' is not one of full_attention, sliding_attention"),
    "types-that-llama-does-not-read": (config("llama", layer_types=[WINDOW] * 3, sliding_window=12),
                                       "layer_types: LlamaForCausalLM does not read it, and has other layers: full"),
    "windows-not-used": (config("qwen2", layer_types=[WINDOW] * 3, sliding_window=12), "use_sliding_window: not true"),
    "windows-without-width": (config("gpt_oss", sliding_window=None), "sliding_window: missing"),
    "a-width-of-text": (config("mistral", sliding_window="wide"), "sliding_window: 'wide' is not a whole number"),
    "too-many-layers": (config("llama", num_hidden_layers=10**9), "num_hidden_layers: 1000000000 is over 10000"),
    "no-layers": (config("llama", num_hidden_layers=ABSENT), "num_hidden_layers: missing"),
    # sizes that fit nothing
    "kv-heads-do-not-divide": (config("llama", num_key_value_heads=3), "num_key_value_heads: 3 does not divide the 4 "),
    "more-kv-heads": (config("llama", num_key_value_heads=8),
                      "num_key_value_heads: 8 does not divide the 4 query heads"),
    "heads-do-not-divide": (config("llama", num_attention_heads=6),
                            "num_attention_heads: 6 does not divide hidden_size"),
    "an-odd-head": (config("llama", head_dim=15), "head_dim: 15 elements of a head cannot be rotated in pairs"),
    "an-odd-latent": (config("deepseek_v2", qk_rope_head_dim=7),
                      "qk_rope_head_dim: 7 elements of a head cannot be rot"),
    "a-wider-head-of-qwen2": (config("qwen2", head_dim=32),
                              "head_dim: 32 is not 16, hidden_size by num_attention_heads"),
    "kv-heads-of-latents": (config("deepseek_v2", num_key_value_heads=2), "num_key_value_heads: 2 is not 4"),
    "more-groups-than-there-are": (config("deepseek_v3", topk_group=8),
                                   "topk_group: 8 is over 4, the number of groups"),
    "groups-do-not-divide": (config("deepseek_v3", n_group=3), "n_group: 3 does not divide the 16 experts"),
    "groups-too-small": (config("deepseek_v3", topk_group=1, num_experts_per_tok=5),
                         "num_experts_per_tok: 5 is over 4"),
    "groups-of-one": (config("deepseek_v3", n_group=16, topk_group=8), "n_group: 16 groups of one expert"),
    "more-experts-than-there-are": (config("mixtral", num_experts_per_tok=9), "num_experts_per_tok: 9 is over 8"),
    "two-counts-of-experts": (config("mixtral", num_experts=4),
                              "num_local_experts: num_local_experts 8, num_experts 4"),
    "no-experts": (config("mixtral", num_local_experts=ABSENT), "num_local_experts: missing"),
    # families whose scaling or layers are not all built
    "phi3-longrope": (config("phi3", rope_scaling={"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}),
                      "rope_scaling.rope_type: 'longrope' is not one of"),
    "phi3-yarn": (config("phi3", rope_scaling=YARN), "rope_scaling.rope_type: 'yarn': this architecture is built for"),
    "smollm3-few-marks": (config("smollm3", no_rope_layers=[1, 0]), "no_rope_layers: is not a list of 0 and 1 for 4"),
    "smollm3-no-interval": (config("smollm3", no_rope_layer_interval=0), "no_rope_layer_interval: 0 is not a whole"),
    "gemma2-pattern": (config("gemma2", sliding_window_pattern=3), "sliding_window_pattern: "),
    "gemma2-both-ways": (config("gemma2", use_bidirectional_attention=True), "use_bidirectional_attention: True"),
    "granite-no-scale": (config("granite", attention_multiplier=0.0), "attention_multiplier: 0.0 is not a number"),
    "starcoder2-gated": (config("starcoder2", hidden_act="silu"), "hidden_act: 'silu' is not one of gelu_pytorch_tanh"),
    # DeepSeek's choice, of which each version has its own
    "v2-by-sigmoid": (config("deepseek_v2", scoring_func="sigmoid"), "scoring_func: 'sigmoid' is not 'softmax'"),
    "v2-normalised": (config("deepseek_v2", norm_topk_prob=True), "norm_topk_prob: True is not False"),
    "v3-greedy": (config("deepseek_v3", topk_method="greedy"), "topk_method: 'greedy' is not 'noaux_tc'"),
    "experts-in-every-second-layer": (config("deepseek_v3", moe_layer_freq=2), "moe_layer_freq: 2 is not 1"),
}  # fmt: skip
"""Configs that are not, and the end of what is said."""


def shipped() -> dict[str, Config]:
    """Every shipped config at tiny sizes, of each kind one: with the same keys, and layers of the same kinds."""
    found: dict[str, Config] = {}
    for path in sorted((manifests_directory() / "models").glob("*.json")):
        small = shrunk(json.loads(path.read_text()))
        if small not in found.values():
            found[path.stem] = small
    return found


def shrunk(published: Config) -> Config:
    """The config with the sizes of SIZES and BASES; what says how they are used stays."""
    if "text_config" in published:
        text = shrunk({**published["text_config"], "architectures": published["architectures"]})
        text.pop("architectures")
        small = {key: value for key, value in published.items() if key not in UNREAD}
        images = {"vision_config": IMAGES, "mm_tokens_per_image": 4}
        return {**small, "text_config": text, "torch_dtype": "float32", **images}
    base = {"num_hidden_layers": 3, **BASES[published["model_type"]], "sliding_window": 12, "max_window_layers": 1}
    sizes = {key: value for key, value in {**SIZES, **base}.items() if published.get(key) is not None}
    types = published.get("layer_types", [])[: sizes["num_hidden_layers"]]
    layers = {"layer_types": types} if types else {}
    if "num_key_value_heads" in sizes and published["num_key_value_heads"] == published["num_attention_heads"]:
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    small = {key: value for key, value in published.items() if key not in UNREAD}
    sizes |= layers | _shrunk_rope(published.get("rope_scaling"))
    return {**small, **sizes, "vocab_size": SIZES["vocab_size"]}


def _shrunk_rope(scaling: Config | None) -> Config:
    """The same scaling of a context of 8 tokens."""
    if not scaling or "original_max_position_embeddings" not in scaling:
        return {}
    return {"rope_scaling": {**scaling, "original_max_position_embeddings": 8}}
