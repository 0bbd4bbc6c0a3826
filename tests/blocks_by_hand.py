"""Scenarios of blocks and layers, small enough for a test."""

from fastkernels.manifest import InputSpec, Scenario

PAGE = 16
CONFIG = {
    "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 96,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 256, "rope_theta": 10000.0,
}  # fmt: skip


def context(kind, dtype="bfloat16", kv_heads=2, head_dim=32, keys=128):
    """decode: one token a sequence of up to `keys`; prefill: two prompts; chunked: one after 48 cached tokens; mixed:
    three decoding sequences, then the chunk. Returns (specs, tokens)."""
    decodes = {"decode": "tokens", "mixed": 3}.get(kind)
    cached = 48 if kind in ("chunked", "mixed") else 0
    tokens = "tokens+3" if kind == "mixed" else "tokens"
    pages = keys // PAGE
    specs = []
    if decodes:
        used = f"{pages}*tokens" if kind == "decode" else 3 * pages
        specs += [
            InputSpec("block_table", "block_table", (decodes, pages), "int32", {"pages": used}),
            InputSpec("seqused_k", "seqused_k", (decodes,), "int32", {"max": keys, "padded": True}),
            InputSpec("num_decodes", "literal", args={"value": decodes}),
            InputSpec("max_seqlen_k", "literal", args={"value": keys}),
        ]
    first = 3 * pages if kind == "mixed" else 0
    if kind != "decode":
        sequences = 1 if cached else 2
        lengths = {"total": "tokens", "sequences": sequences}
        of_keys = ("cu_seqlens", {"total": f"tokens+{cached}", "sequences": sequences}) if cached else (
            "same_as", {"of": "context.cu_seqlens_q"})
        specs += [
            InputSpec("cu_seqlens_q", "cu_seqlens", (sequences + 1,), "int32", lengths),
            InputSpec("cu_seqlens_k", of_keys[0], (sequences + 1,), "int32", of_keys[1]),
            InputSpec("max_seqlen_q", "literal", args={"value": "tokens"}),
            InputSpec("prefill_max_seqlen_k", "literal", args={"value": f"tokens+{cached}"}),
        ]
        if cached:
            slots = {"page_size": PAGE, "pages": first + 32, "first": first}
            specs.append(InputSpec("key_slots", "key_slots", (f"tokens+{cached}",), "int64", slots))
    total = f"{pages}*tokens+2" if kind == "decode" else first + 32
    cache = ((total, PAGE, kv_heads, head_dim), dtype)
    specs += [
        InputSpec("slot_mapping", "batch_slots", (tokens,), "int64", {"page_size": PAGE, "pages": 32}),
        InputSpec("key_cache", "normal", *cache), InputSpec("value_cache", "normal", *cache),
    ]
    named = tuple(InputSpec(f"context.{s.name}", s.values, s.shape, s.dtype, s.args) for s in specs)
    return named, tokens


def block(module, class_name, init, inputs, level=2, tokens=6, phase="decode", tp=1, op=""):
    return Scenario(
        op=op or module, module=module, class_name=class_name, level=level, category="llm", model="tiny",
        model_id="test/tiny", tp=tp, tokens=tokens, phase=phase, variant="", init=init, inputs=tuple(inputs))


def llama_attention(kind="decode", tokens=6, dtype="bfloat16", tp=1):
    specs, rows = context(kind, dtype, kv_heads=2 // tp)
    init = {"config": CONFIG, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "max_position_embeddings": 256,
            "prefix": "model.layers.0.self_attn", "dtype": dtype}
    inputs = (*specs, InputSpec("positions", "batch_positions", (rows,), "int64"),
              InputSpec("hidden_states", "normal", (rows, 64), dtype))
    phase = "decode" if kind == "decode" else "prefill"
    return block("llama_attention", "LlamaAttention", init, inputs, tokens=tokens, phase=phase, tp=tp)


def llama_mlp(tokens=6, dtype="bfloat16", tp=1):
    init = {"hidden_size": 64, "intermediate_size": 96, "dtype": dtype}
    return block("llama_mlp", "LlamaMLP", init, [InputSpec("x", "normal", ("tokens", 64), dtype)], tokens=tokens, tp=tp)


def llama_layer(kind="decode", tokens=6, dtype="bfloat16"):
    attention = llama_attention(kind, tokens, dtype)
    residual = InputSpec("residual", "normal", attention.inputs[-1].shape, dtype)
    init = {"config": CONFIG, "prefix": "model.layers.0", "dtype": dtype}
    return block("llama_decoder_layer", "LlamaDecoderLayer", init, (*attention.inputs, residual), level=3,
                 tokens=tokens, phase=attention.phase)


def mixtral_moe(tokens=6, dtype="bfloat16"):
    init = {"num_experts": 8, "top_k": 2, "hidden_size": 64, "intermediate_size": 96, "params_dtype": dtype}
    states = InputSpec("hidden_states", "routed", ("tokens", 64), dtype, {"gate": "gate.weight", "top_k": 2})
    return block("mixtral_moe", "MixtralMoE", init, [states], tokens=tokens)


def deepseek_moe(tokens=6, dtype="bfloat16"):
    config = {"hidden_size": 64, "n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 32,
              "n_shared_experts": 1, "norm_topk_prob": True, "topk_method": "noaux_tc", "n_group": 4, "topk_group": 2,
              "scoring_func": "sigmoid", "routed_scaling_factor": 2.5, "hidden_act": "silu"}  # fmt: skip
    args = {"gate": "gate.weight", "top_k": 4, "groups": 4, "top_groups": 2, "least": 1.0}
    states = InputSpec("hidden_states", "routed", ("tokens", 64), dtype, args)
    return block("deepseek_v2_moe", "DeepseekV2MoE", {"config": config, "dtype": dtype}, [states], tokens=tokens)


def mixtral_layer(kind="decode", tokens=6, dtype="bfloat16"):
    dense = llama_layer(kind, tokens, dtype)
    residual = dense.inputs[-1]
    args = {"gate": "mlp.gate.weight", "top_k": 2, "norm": "post_attention_layernorm.weight", "least": 2.0,
            "beside": "hidden_states", "margin": 6.0}
    routed = InputSpec("residual", "routed", residual.shape, dtype, args)
    config = {**CONFIG, "num_local_experts": 8, "num_experts_per_tok": 2}
    init = {"config": config, "prefix": "model.layers.0", "dtype": dtype}
    return block("mixtral_decoder_layer", "MixtralDecoderLayer", init, (*dense.inputs[:-1], routed), level=3,
                 tokens=tokens, phase=dense.phase)
