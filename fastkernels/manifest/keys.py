"""Which keys of a config change what a model computes: those that are read, those that must be neutral, the rest."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastkernels.errors import did_you_mean
from fastkernels.manifest.families import FAMILIES, Family

READ = frozenset((
    "architectures", "dtype", "head_dim", "hidden_size", "intermediate_size", "layer_types", "max_position_embeddings",
    "model_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps",
    "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings", "torch_dtype", "vocab_size",
))  # fmt: skip
"""Keys that every family reads."""

EXPERT_KEYS = frozenset(("num_experts", "num_experts_per_tok", "num_local_experts"))
"""Keys that every family with experts reads; transformers saves the count under any of its names."""

HARMLESS = frozenset((
    # where the file comes from
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled", "_name_or_path",
    "_note", "attn_implementation", "auto_map", "finetuning_task", "is_llama_config", "name_or_path", "tokenizer_class",
    "transformers.js_config", "transformers_version", "unsloth_fixed", "unsloth_version",
    # training
    "attention_dropout", "attn_pdrop", "aux_loss_alpha", "classifier_dropout", "embd_pdrop", "ep_size",
    "gradient_checkpointing", "hidden_dropout", "hidden_dropout_prob", "initializer_range", "loss_type",
    "output_router_logits", "pretraining_tp", "resid_pdrop", "router_aux_loss_coef", "router_jitter_noise", "seq_aux",
    # tokens, tasks and labels
    "bos_token_id", "cls_token_id", "decoder_start_token_id", "eos_token_id", "id2label", "is_decoder", "label2id",
    "mask_token_id", "num_labels", "pad_token_id", "prefix", "problem_type", "sep_token_id", "task_specific_params",
    "unk_token_id",
    # how transformers runs a model, and how it samples
    "bad_words_ids", "begin_suppress_tokens", "cache_implementation", "chunk_size_feed_forward", "diversity_penalty",
    "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens",
    "max_sequence_length", "min_length", "model_max_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "pruned_heads",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate", "suppress_tokens",
    "temperature", "tf_legacy_loss", "top_k", "top_p", "torchscript", "typical_p", "use_bfloat16", "use_cache",
    "use_flash_attn",
    # further heads, which predict tokens ahead
    "num_mtp_layers", "num_nextn_predict_layers",
))  # fmt: skip
"""Keys that no layer reads."""

ONLY: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,), "alibi": (False,), "attention_bias": (False,), "attention_chunk_size": (),
    "attention_multiplier": (), "attn_logit_softcapping": (), "attn_temperature_tuning": (False,), "bias": (False,),
    "clip_qkv": (), "cross_attention_hidden_size": (), "decoder_sparse_step": (1,), "embedding_multiplier": (1.0,),
    "final_logit_softcapping": (), "is_causal": (True,), "is_encoder_decoder": (False,), "logit_scale": (1.0,),
    "logits_scaling": (1.0,), "mlp_bias": (False,), "moe_layer_freq": (1,), "n_group": (1,), "n_routed_experts": (0,),
    "n_shared_experts": (0,), "no_rope_layer_interval": (), "no_rope_layers": (), "num_experts": (0,),
    "num_local_experts": (0,), "original_max_position_embeddings": (), "partial_rotary_factor": (1.0,),
    "qkv_bias": (False,), "query_pre_attn_scalar": (), "residual_multiplier": (1.0,), "rope_interleave": (False,),
    "rope_interleaved": (False,), "shared_expert_intermediate_size": (0,), "sliding_window": (),
    "tie_encoder_decoder": (False,), "topk_group": (1,), "use_bidirectional_attention": (False,),
    "use_mrope": (False,), "use_parallel_residual": (False,), "use_qk_norm": (False,), "use_sliding_window": (False,),
}  # fmt: skip
"""Keys with the only values that change nothing, for families that do not read them; None changes nothing either."""

QUANTIZED = ("compression_config", "quantization", "quantization_config")
EMPTY: tuple[Any, ...] = (None, [], {})

_NEAR = 0.8


def read_keys(family: Family) -> set[str]:
    """Return the keys that a family's configs are read for."""
    experts = {family.experts_key, family.expert_size_key, *EXPERT_KEYS} if family.experts_key else set()
    partial = {"partial_rotary_factor"} if family.partial_rotary else set()
    return {*READ, *family.reads, *family.defaults, family.activation_key, *experts, *partial}


def problems(published: Mapping[str, Any], architecture: str, family: Family) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for every key that would change the model and is not read."""
    read = read_keys(family)
    for key, value in published.items():
        if key in QUANTIZED and value not in EMPTY:
            yield key, "quantized models are not supported; use the unquantized config, with weights in bfloat16"
        elif value in EMPTY or key in HARMLESS or key in family.ignored:
            continue
        elif key in family.only:
            if value not in family.only[key]:
                yield key, _not_built(value, family.only[key], architecture)
        elif key in read:
            continue
        elif key in ONLY:
            if value not in ONLY[key]:
                yield key, _not_built(value, ONLY[key], architecture)
        else:
            yield key, _unknown(key, value, architecture, read)


def _unknown(key: str, value: Any, architecture: str, read: set[str]) -> str:
    users = sorted(name for name, family in FAMILIES.items() if key in read_keys(family))
    of = f"; it is a key of {', '.join(users)}" if users else ""
    near = did_you_mean(key, sorted(read), _NEAR)
    return (f"{_short(value)}: {architecture} does not read this key, and it is not known to be harmless{of}{near}")


def _not_built(value: Any, allowed: tuple[Any, ...], architecture: str) -> str:
    listed = " or ".join(repr(one) for one in allowed) if allowed else "None"
    return f"{_short(value)} is not {listed}, which {architecture} is built for"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
