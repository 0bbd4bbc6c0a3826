"""The entries of level 1 operators for one model at one TP degree: init arguments and inputs as vLLM makes them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from fastkernels.manifest.config import Layer
from fastkernels.manifest.contexts import CACHED_TOKENS, DECODE_KEYS, PAGE_SIZE, SPARE_PAGES
from fastkernels.manifest.drafts import (
    ALL_TOKENS,
    DECODE_TOKENS,
    PREFILL_TOKENS,
    Draft,
    Input,
    literal,
    longest,
    sliced,
    tensor,
    times,
)
from fastkernels.manifest.facts import LATENT_EPS
from fastkernels.manifest.shard import Shard

RAGGED_SEQUENCES = 8
"""Sequences in the ragged prefill batch."""
SINK_MEAN, SINK_STD = 4.0, 1.0
"""Attention sinks: beside 100 to 1000 keys of unit scale each takes some per cent. Around 0 most would take nothing
that a tolerance shows, whatever their spread."""


def _norm(shard: Shard, op: str) -> Iterator[Draft]:
    """Norms of the residual stream (replicated) and, by architecture, of local heads and of compressed widths."""
    config = shard.config
    if config.family.norm != op:
        return
    width = "normalized_shape" if op == "layer_norm" else "hidden_size"
    init = {width: config.hidden_size, "eps": config.rms_norm_eps, "dtype": config.dtype}
    stream = tensor("tokens", config.hidden_size, dtype=config.dtype)
    yield Draft(op, ALL_TOKENS, init, {"x": stream})
    if not config.family.stream:
        yield Draft(op, ALL_TOKENS, init, {"x": stream, "residual": stream}, "residual")
    if config.qk_norm:
        yield from _qk_norms(shard, op, init)
    latent = config.latent
    if latent is not None:
        for variant, wide in (("q_a_norm", latent.q_lora_rank), ("kv_a_norm", latent.kv_lora_rank)):
            if wide:
                x = sliced(tensor("tokens", wide, dtype=config.dtype), shard.latent_size)
                yield Draft(op, ALL_TOKENS, {**init, "hidden_size": wide, "eps": LATENT_EPS}, {"x": x}, variant)


rms_norm, gemma_rms_norm, layer_norm = (
    partial(_norm, op=op) for op in ("rms_norm", "gemma_rms_norm", "layer_norm")
)


def _qk_norms(shard: Shard, op: str, init: dict[str, Any]) -> Iterator[Draft]:
    """Of each local head, or of all heads of a token, which ranks have gathered."""
    config = shard.config
    for variant, heads, whole in (
        ("q_norm", shard.heads, config.num_heads), ("k_norm", shard.kv_heads, config.num_kv_heads)
    ):
        if config.family.whole_qk_norm:
            width = whole * config.head_dim
            x = tensor("tokens", width, dtype=config.dtype)
            x = x if shard.tp > 1 else sliced(x, shard.qkv_size)
        else:
            width = config.head_dim
            x = sliced(tensor("tokens", heads, width, dtype=config.dtype), shard.qkv_size)
        yield Draft(op, ALL_TOKENS, {**init, "hidden_size": width}, {"x": x}, variant)


def _gated(shard: Shard, op: str) -> Iterator[Draft]:
    """The gated activations: of experts, whose tokens have one row per chosen expert, and of dense and shared MLPs."""
    config, routing = shard.config, shard.config.routing
    uses = []
    if routing.num_experts:
        activation = config.family.expert_activation or config.activation
        uses.append((activation, times(routing.top_k), shard.expert_size, ""))
        if routing.num_shared:
            uses.append((config.activation, "tokens", routing.num_shared * shard.expert_size, "shared"))
    if config.has_dense_mlp and config.family.gated:
        uses.append((config.activation, "tokens", shard.intermediate_size, "dense" if uses else ""))
    for activation, rows, width, variant in uses:
        if activation == op:
            init: dict[str, Any] = {"approximate": config.approximate} if op == "gelu_and_mul" else {}
            if op == "swigluoai_and_mul":
                init = {"alpha": float(config.raw["swiglu_alpha"]), "limit": float(config.raw["swiglu_limit"])}
            yield Draft(op, ALL_TOKENS, init, {"x": tensor(rows, 2 * width, dtype=config.dtype)}, variant)


silu_and_mul, gelu_and_mul, swigluoai_and_mul = (
    partial(_gated, op=op) for op in ("silu_and_mul", "gelu_and_mul", "swigluoai_and_mul")
)


def gelu(shard: Shard) -> Iterator[Draft]:
    """The activation of MLPs without a gate."""
    config = shard.config
    if not config.family.gated:
        x = tensor("tokens", shard.intermediate_size, dtype=config.dtype)
        yield Draft("gelu", ALL_TOKENS, {"approximate": config.approximate}, {"x": x})


def rotary_emb(shard: Shard) -> Iterator[Draft]:
    """The rotary embedding of the local heads; windowed layers may have one of their own."""
    config, latent = shard.config, shard.config.latent
    kinds = {str(layer.rope_parameters): layer for layer in reversed(config.layers) if layer.rope_parameters}
    for layer in reversed(kinds.values()):
        scaling = {key: value for key, value in layer.rope_parameters.items()
                   if key not in ("rope_theta", "partial_rotary_factor")}  # fmt: skip
        init: dict[str, Any] = {
            "head_size": config.head_dim,
            "rotary_dim": config.rotary_dim,
            "max_position_embeddings": config.max_position_embeddings,
            "base": layer.rope_parameters["rope_theta"],
            "is_neox_style": latent is None or not config.raw.get("rope_interleave", True),
            "dtype": config.dtype,
        }
        if scaling["rope_type"] != "default":
            own = {"rope_type": "deepseek_yarn"} if latent is not None and scaling["rope_type"] == "yarn" else {}
            init["rope_scaling"] = {**scaling, **own}
        inputs = {
            "positions": tensor("tokens", dtype="int64", values="positions", max=config.max_position_embeddings),
            **_rotated(shard),
        }
        variant = window_variant(shard, layer) if len(kinds) > 1 else ""
        yield Draft("rotary_emb", ALL_TOKENS, init, inputs, variant)


def _rotated(shard: Shard) -> dict[str, Input]:
    """Query and key: slices of the fused projection unless each head is normalised before.

    Of latent attention the rotated part of every query head, pairs side by side, and of the one key.
    """
    latent, dtype = shard.config.latent, shard.config.dtype
    if latent is not None:
        width = latent.qk_nope_head_dim + latent.qk_rope_head_dim
        query = tensor("tokens", shard.heads, latent.qk_rope_head_dim, dtype=dtype)
        key = tensor("tokens", latent.qk_rope_head_dim, dtype=dtype)
        return {"query": sliced(query, shard.heads * width, width), "key": sliced(key, shard.latent_size)}
    query, key = (tensor("tokens", width, dtype=dtype) for width in (shard.q_size, shard.kv_size))
    return {"query": as_query(shard, query), "key": as_key(shard, key)}


def as_query(shard: Shard, spec: Input) -> Input:
    """The same input as the model passes queries before and after the rotary embedding, which rotates in place."""
    return _as_passed(shard, spec, shard.config.num_heads)


def as_key(shard: Shard, spec: Input) -> Input:
    """The same of keys."""
    return _as_passed(shard, spec, shard.config.num_kv_heads)


def _as_passed(shard: Shard, spec: Input, heads: int) -> Input:
    """A slice of the fused projection, or what norms made of it: new memory, of all heads at once this rank's part."""
    if not shard.config.qk_norm:
        return sliced(spec, shard.qkv_size)
    if shard.config.family.whole_qk_norm and shard.tp > 1:
        return sliced(spec, heads * shard.config.head_dim)
    return spec


def scores_of_size(shard: Shard, spec: Input) -> Input:
    """Queries whose scores reach a soft cap, so that it counts: their deviation is a quarter of it."""
    cap = shard.config.soft_cap
    return {**spec, "args": {"std": cap / 4}} if cap else spec


def window_variant(shard: Shard, layer: Layer) -> str:
    """Return `window` for windowed layers of a model that has others too."""
    return "window" if layer.window and any(not other.window for other in shard.config.layers) else ""


def position_variant(shard: Shard, layer: Layer) -> str:
    """Return `nope` for layers without a rotary embedding of a model that has others too."""
    return "nope" if not layer.rope_parameters and any(other.rope_parameters for other in shard.config.layers) else ""


def linear(shard: Shard) -> Iterator[Draft]:
    """Every projection by its local shape, the router, and lm_head.

    lm_head sees the last token of each sequence only, so it has decode counts alone.
    """
    config = shard.config
    for variant, input_size, output_size, bias, tokens in (*_attention_layers(shard), *_mlp_layers(shard)):
        init = {"input_size": input_size, "output_size": output_size, "bias": bias, "dtype": config.dtype}
        yield Draft("linear", tokens, init, {"x": tensor("tokens", input_size, dtype=config.dtype)}, variant)


LinearLayer = tuple[str, int, int, bool, tuple[int, ...]]
"""(variant, input size, output size, bias, token counts)."""


def _attention_layers(shard: Shard) -> Iterator[LinearLayer]:
    config, latent = shard.config, shard.config.latent
    hidden = config.hidden_size
    if latent is None:
        yield "qkv_proj", hidden, shard.q_size + 2 * shard.kv_size, config.qkv_bias, ALL_TOKENS
        yield "o_proj", shard.q_size, hidden, config.o_bias, ALL_TOKENS
        return
    query = shard.heads * (latent.qk_nope_head_dim + latent.qk_rope_head_dim)
    if latent.q_lora_rank:
        down = latent.q_lora_rank + latent.kv_lora_rank + latent.qk_rope_head_dim
        yield "fused_qkv_a_proj", hidden, down, config.qkv_bias, ALL_TOKENS
        yield "q_b_proj", latent.q_lora_rank, query, False, ALL_TOKENS
    else:
        yield "q_proj", hidden, query, False, ALL_TOKENS
        yield "kv_a_proj_with_mqa", hidden, latent.kv_lora_rank + latent.qk_rope_head_dim, config.qkv_bias, ALL_TOKENS
    up = shard.heads * (latent.qk_nope_head_dim + latent.v_head_dim)
    yield "kv_b_proj", latent.kv_lora_rank, up, False, ALL_TOKENS
    yield "o_proj", shard.heads * latent.v_head_dim, hidden, config.o_bias, ALL_TOKENS


def _mlp_layers(shard: Shard) -> Iterator[LinearLayer]:
    config, routing = shard.config, shard.config.routing
    hidden, inner = config.hidden_size, shard.intermediate_size
    if routing.num_experts:
        yield "gate", hidden, routing.num_experts, config.family.expert_bias, ALL_TOKENS
    if config.has_dense_mlp:
        up, width, down = ("gate_up_proj", 2 * inner, "down_proj") if config.family.gated else ("c_fc", inner, "c_proj")
        yield up, hidden, width, config.mlp_bias, ALL_TOKENS
        yield down, inner, hidden, config.mlp_bias, ALL_TOKENS
    if routing.num_shared:
        shared = routing.num_shared * shard.expert_size
        yield "shared_gate_up_proj", hidden, 2 * shared, False, ALL_TOKENS
        yield "shared_down_proj", shared, hidden, False, ALL_TOKENS
    yield "lm_head", hidden, shard.vocab_size, False, DECODE_TOKENS


def embedding(shard: Shard) -> Iterator[Draft]:
    """The vocabulary's local rows; ids are drawn within them, as after vLLM's masking of other ranks' ids."""
    init = {
        "num_embeddings": shard.vocab_size,
        "embedding_dim": shard.config.hidden_size,
        "dtype": shard.config.dtype,
    }
    ids = tensor("tokens", dtype="int64", values="token_ids", vocab=shard.vocab_size)
    yield Draft("embedding", ALL_TOKENS, init, {"input_ids": ids})


STORES = (
    (DECODE_TOKENS, "tokens+64", f"{PAGE_SIZE}*tokens+{PAGE_SIZE * 64}"),
    (PREFILL_TOKENS, 640, PAGE_SIZE * 640),
)
"""(token counts, pages, slots) of the caches that are written to; they have more slots than the call fills."""


def store_kvcache(shard: Shard) -> Iterator[Draft]:
    """Writes new keys and values into the paged cache."""
    if shard.config.latent is not None:
        return
    for tokens, pages, slots in STORES:
        heads, dim, dtype = shard.kv_heads, shard.config.head_dim, shard.config.dtype
        rows = tensor("tokens", heads, dim, dtype=dtype)
        cache = tensor(pages, PAGE_SIZE, heads, dim, dtype=dtype)
        mapping = tensor("tokens", dtype="int64", values="slot_mapping", slots=slots)
        inputs = {"key": as_key(shard, rows), "value": sliced(rows, shard.qkv_size), "key_cache": cache,
                  "value_cache": cache, "slot_mapping": mapping}
        yield Draft("store_kvcache", tokens, {}, inputs)


def store_mla_cache(shard: Shard) -> Iterator[Draft]:
    """Writes compressed keys and values and the rotated part of the keys into the paged latent cache (replicated)."""
    latent, dtype = shard.config.latent, shard.config.dtype
    for tokens, pages, slots in STORES if latent is not None else ():
        assert latent is not None
        inputs = {
            "kv_c": tensor("tokens", latent.kv_lora_rank, dtype=dtype),
            "k_pe": sliced(tensor("tokens", latent.qk_rope_head_dim, dtype=dtype), shard.latent_size),
            "kv_cache": tensor(pages, PAGE_SIZE, latent.kv_lora_rank + latent.qk_rope_head_dim, dtype=dtype),
            "slot_mapping": tensor("tokens", dtype="int64", values="slot_mapping", slots=slots),
        }
        yield Draft("store_mla_cache", tokens, {}, inputs)


def attention_init(shard: Shard, layer: Layer) -> dict[str, Any]:
    """Init arguments of attention over a cache of keys and values, in this kind of layer."""
    config = shard.config
    init = {
        "num_heads": shard.heads,
        "head_size": config.head_dim,
        "scale": config.attention_scale,
        "num_kv_heads": shard.kv_heads,
        **({"logits_soft_cap": config.soft_cap} if config.soft_cap else {}),
    }
    return {**init, "sliding_window": layer.window} if layer.window else init


def _sinks(shard: Shard) -> dict[str, Input]:
    sinks = tensor(shard.heads, dtype=shard.config.dtype, mean=SINK_MEAN, std=SINK_STD)
    return {"sinks": sinks} if shard.config.family.sinks else {}


def attention_layers(shard: Shard) -> Iterator[tuple[str, Layer]]:
    """(variant, layer) of each kind of attention over a cache of keys and values."""
    seen = set()
    for layer in shard.config.layers if shard.config.latent is None else ():
        if layer.window not in seen:
            seen.add(layer.window)
            yield window_variant(shard, layer), layer


def flash_attn_prefill(shard: Shard) -> Iterator[Draft]:
    """Causal attention over one prompt, over several of different lengths, and of a chunk after cached tokens."""
    dim, dtype = shard.config.head_dim, shard.config.dtype
    for kind, layer in attention_layers(shard):
        for batch, sequences, cached in (("", 1, 0), ("ragged", RAGGED_SEQUENCES, 0), ("chunked", 1, CACHED_TOKENS)):
            total_k = f"tokens+{cached}" if cached else "tokens"
            key = tensor(total_k, shard.kv_heads, dim, dtype=dtype)
            cu_seqlens = partial(tensor, sequences + 1, dtype="int32", values="cu_seqlens", sequences=sequences)
            same = tensor(sequences + 1, dtype="int32", values="same_as", of="cu_seqlens_q")
            inputs = {
                "query": scores_of_size(shard, as_query(shard, tensor("tokens", shard.heads, dim, dtype=dtype))),
                "key": key if cached else as_key(shard, key),  # those after cached ones are gathered
                "value": key if cached else sliced(key, shard.qkv_size),
                "cu_seqlens_q": cu_seqlens(total="tokens"),
                "cu_seqlens_k": cu_seqlens(total=total_k) if cached else same,
                "max_seqlen_q": longest("cu_seqlens_q") if sequences > 1 else literal("tokens"),
                "max_seqlen_k": longest("cu_seqlens_k") if sequences > 1 else literal(total_k),
                **_sinks(shard),
            }
            variant = "_".join(filter(None, (kind, batch)))
            yield Draft("flash_attn_prefill", PREFILL_TOKENS, attention_init(shard, layer), inputs, variant)


def flash_attn_decode(shard: Shard) -> Iterator[Draft]:
    """One new token a sequence against the paged cache; `tokens` is the batch size."""
    dim, dtype = shard.config.head_dim, shard.config.dtype
    for kind, layer in attention_layers(shard):
        keys = max(DECODE_KEYS, min(2 * layer.window, shard.config.max_position_embeddings) // PAGE_SIZE * PAGE_SIZE)
        for batch, context, batches in (("", keys, DECODE_TOKENS), ("context8192", 8192, DECODE_TOKENS[:-1])):
            pages = context // PAGE_SIZE
            total = f"{pages}*tokens+{SPARE_PAGES}"
            cache = tensor(total, PAGE_SIZE, shard.kv_heads, dim, dtype=dtype)
            inputs = {
                "query": scores_of_size(shard, as_query(shard, tensor("tokens", shard.heads, dim, dtype=dtype))),
                "key_cache": cache,
                "value_cache": cache,
                "block_table": tensor("tokens", pages, dtype="int32", values="block_table", pages=total),
                "seqused_k": tensor("tokens", dtype="int32", values="seqused_k", max=context),
                "max_seqlen_k": literal(context),
                **_sinks(shard),
            }
            variant = "_".join(filter(None, (kind, batch)))
            yield Draft("flash_attn_decode", batches, attention_init(shard, layer), inputs, variant)


def mla_decode(shard: Shard) -> Iterator[Draft]:
    """Latent attention of one new token a sequence; queries are small enough for scores of unit scale."""
    config, latent = shard.config, shard.config.latent
    if latent is None:
        return
    width = latent.kv_lora_rank + latent.qk_rope_head_dim
    init = {
        "num_heads": shard.heads,
        "kv_lora_rank": latent.kv_lora_rank,
        "qk_rope_head_dim": latent.qk_rope_head_dim,
        "scale": config.attention_scale,
    }
    for variant, context, batches in (("", DECODE_KEYS, DECODE_TOKENS), ("context8192", 8192, DECODE_TOKENS[:-1])):
        pages = context // PAGE_SIZE
        total = f"{pages}*tokens+{SPARE_PAGES}"
        std = round(1 / (width**0.5 * config.attention_scale), 2)
        inputs = {
            "query": tensor("tokens", shard.heads, width, dtype=config.dtype, std=std),
            "kv_cache": tensor(total, PAGE_SIZE, width, dtype=config.dtype),
            "block_table": tensor("tokens", pages, dtype="int32", values="block_table", pages=total),
            "seqused_k": tensor("tokens", dtype="int32", values="seqused_k", max=context),
            "max_seqlen_k": literal(context),
        }
        yield Draft("mla_decode", batches, init, inputs, variant)


def allreduce(shard: Shard) -> Iterator[Draft]:
    """The sum over ranks after attention and after the MLP, each rank with a part of its own."""
    if shard.tp > 1:
        x = tensor("tokens", shard.config.hidden_size, dtype=shard.config.dtype, values="rank_part", ranks=shard.tp)
        yield Draft("allreduce", ALL_TOKENS, {}, {"x": x})
