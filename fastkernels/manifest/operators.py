"""The entries of each operator for one model at one TP degree: init arguments and inputs as vLLM makes them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastkernels.manifest.scenario import Dim
from fastkernels.manifest.shard import Shard

DECODE_TOKENS = (1, 8, 32, 128)
"""Batch sizes of decode: one token a sequence."""
PREFILL_TOKENS = (512, 2048, 8192)
"""Prompt lengths of prefill."""
ALL_TOKENS = DECODE_TOKENS + PREFILL_TOKENS

PAGE_SIZE = 16
"""Tokens in a page of the KV cache, vLLM's default block size."""
SPARE_PAGES = 8
"""Pages of the decode cache that no sequence uses."""
RAGGED_SEQUENCES = 8
"""Sequences in the ragged prefill batch."""
CACHED_TOKENS = 1024
"""Tokens that precede the prompt's chunk in the `chunked` prefill."""

Input = dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """One manifest entry before equal ones are merged."""

    op: str
    """Operator."""
    tokens: tuple[int, ...]
    """Token counts."""
    init: Mapping[str, Any]
    """Keyword arguments of the class."""
    inputs: Mapping[str, Input]
    """Arguments of `forward`."""
    variant: str = ""
    """Use within the model."""


def drafts(shard: Shard) -> Iterator[Draft]:
    """Yield every entry of this model at this TP degree, operator by operator."""
    for op in shard.config.family.operators:
        yield from _BUILDERS[op](shard)


def tensor(*shape: Dim, dtype: str, values: str = "normal", **args: Any) -> Input:
    """Return the manifest form of a tensor input."""
    spec: Input = {"shape": list(shape), "dtype": dtype, "values": values}
    return {**spec, "args": args} if args else spec


def literal(value: Any) -> Input:
    """Return the manifest form of a plain argument."""
    return {"values": "literal", "args": {"value": value}}


def rms_norm(shard: Shard) -> Iterator[Draft]:
    """Norms of the residual stream (replicated) and, by architecture, of the local query and key heads."""
    config = shard.config
    init = {"hidden_size": config.hidden_size, "eps": config.rms_norm_eps, "dtype": config.dtype}
    stream = tensor("tokens", config.hidden_size, dtype=config.dtype)
    yield Draft("rms_norm", ALL_TOKENS, init, {"x": stream})
    yield Draft("rms_norm", ALL_TOKENS, init, {"x": stream, "residual": stream}, "residual")
    if config.family.qk_norm:
        init = {**init, "hidden_size": config.head_dim}
        for variant, heads in (("q_norm", shard.heads), ("k_norm", shard.kv_heads)):
            x = tensor("tokens", heads, config.head_dim, dtype=config.dtype)
            yield Draft("rms_norm", ALL_TOKENS, init, {"x": x}, variant)


def _gated_rows(shard: Shard) -> Input:
    """Input of the gated activation; with experts each token has one row per chosen expert."""
    rows = f"{shard.config.top_k}*tokens" if shard.config.top_k > 1 else "tokens"
    return tensor(rows, 2 * shard.intermediate_size, dtype=shard.config.dtype)


def silu_and_mul(shard: Shard) -> Iterator[Draft]:
    """The gated activation of models whose activation is silu."""
    if shard.config.activation == "silu_and_mul":
        yield Draft("silu_and_mul", ALL_TOKENS, {}, {"x": _gated_rows(shard)})


def gelu_and_mul(shard: Shard) -> Iterator[Draft]:
    """The gated activation of models whose activation is gelu."""
    if shard.config.activation == "gelu_and_mul":
        yield Draft("gelu_and_mul", ALL_TOKENS, {"approximate": shard.config.approximate}, {"x": _gated_rows(shard)})


def rotary_emb(shard: Shard) -> Iterator[Draft]:
    """The rotary embedding of the local heads."""
    config = shard.config
    init: dict[str, Any] = {
        "head_size": config.head_dim,
        "rotary_dim": config.rotary_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "base": config.rope_theta,
        "is_neox_style": True,
        "dtype": config.dtype,
    }
    if config.rope_scaling:
        init["rope_scaling"] = dict(config.rope_scaling)
    inputs = {
        "positions": tensor("tokens", dtype="int64", values="positions", max=config.max_position_embeddings),
        "query": tensor("tokens", shard.q_size, dtype=config.dtype),
        "key": tensor("tokens", shard.kv_size, dtype=config.dtype),
    }
    yield Draft("rotary_emb", ALL_TOKENS, init, inputs)


def linear(shard: Shard) -> Iterator[Draft]:
    """Column-parallel qkv_proj and gate_up_proj, row-parallel o_proj and down_proj, the router, and lm_head.

    lm_head sees the last token of each sequence only, so it has decode counts alone.
    """
    config = shard.config
    hidden, inner = config.hidden_size, shard.intermediate_size
    layers: list[tuple[str, int, int, bool, tuple[int, ...]]] = [
        ("qkv_proj", hidden, shard.q_size + 2 * shard.kv_size, config.qkv_bias, ALL_TOKENS),
        ("o_proj", shard.q_size, hidden, config.o_bias, ALL_TOKENS),
    ]
    if config.num_experts:
        layers += [("gate", hidden, config.num_experts, False, ALL_TOKENS)]
    else:
        layers += [
            ("gate_up_proj", hidden, 2 * inner, config.mlp_bias, ALL_TOKENS),
            ("down_proj", inner, hidden, config.mlp_bias, ALL_TOKENS),
        ]
    layers += [("lm_head", hidden, shard.vocab_size, False, DECODE_TOKENS)]
    for variant, input_size, output_size, bias, tokens in layers:
        init = {"input_size": input_size, "output_size": output_size, "bias": bias, "dtype": config.dtype}
        yield Draft("linear", tokens, init, {"x": tensor("tokens", input_size, dtype=config.dtype)}, variant)


def embedding(shard: Shard) -> Iterator[Draft]:
    """The vocabulary's local rows; ids are drawn within them, as after vLLM's masking of other ranks' ids."""
    init = {
        "num_embeddings": shard.vocab_size,
        "embedding_dim": shard.config.hidden_size,
        "dtype": shard.config.dtype,
    }
    ids = tensor("tokens", dtype="int64", values="token_ids", vocab=shard.vocab_size)
    yield Draft("embedding", ALL_TOKENS, init, {"input_ids": ids})


def topk_softmax(shard: Shard) -> Iterator[Draft]:
    """The router's choice of experts (replicated)."""
    config = shard.config
    if config.num_experts:
        init = {"top_k": config.top_k, "renormalize": config.renormalize}
        gating = tensor("tokens", config.num_experts, dtype=config.dtype)
        yield Draft("topk_softmax", ALL_TOKENS, init, {"gating_output": gating})


def store_kvcache(shard: Shard) -> Iterator[Draft]:
    """Writes new keys and values into the paged cache, which has more slots than the call fills."""
    for tokens, pages, slots in (
        (DECODE_TOKENS, "tokens+64", f"{PAGE_SIZE}*tokens+{PAGE_SIZE * 64}"),
        (PREFILL_TOKENS, 640, PAGE_SIZE * 640),
    ):
        heads, dim, dtype = shard.kv_heads, shard.config.head_dim, shard.config.dtype
        rows = tensor("tokens", heads, dim, dtype=dtype)
        cache = tensor(pages, PAGE_SIZE, heads, dim, dtype=dtype)
        mapping = tensor("tokens", dtype="int64", values="slot_mapping", slots=slots)
        inputs = {"key": rows, "value": rows, "key_cache": cache, "value_cache": cache, "slot_mapping": mapping}
        yield Draft("store_kvcache", tokens, {}, inputs)


def _attention_init(shard: Shard) -> dict[str, Any]:
    return {
        "num_heads": shard.heads,
        "head_size": shard.config.head_dim,
        "scale": shard.config.head_dim**-0.5,
        "num_kv_heads": shard.kv_heads,
    }


def flash_attn_prefill(shard: Shard) -> Iterator[Draft]:
    """Causal attention over one prompt, over several of different lengths, and of a chunk after cached tokens."""
    for variant, sequences, cached in (
        ("", 1, 0),
        ("ragged", RAGGED_SEQUENCES, 0),
        ("chunked", 1, CACHED_TOKENS),
    ):
        dim, dtype = shard.config.head_dim, shard.config.dtype
        total_k = f"tokens+{cached}" if cached else "tokens"
        key = tensor(total_k, shard.kv_heads, dim, dtype=dtype)
        cu_seqlens = partial(tensor, sequences + 1, dtype="int32", values="cu_seqlens", sequences=sequences)
        same = tensor(sequences + 1, dtype="int32", values="same_as", of="cu_seqlens_q")
        inputs = {
            "query": tensor("tokens", shard.heads, dim, dtype=dtype),
            "key": key,
            "value": key,
            "cu_seqlens_q": cu_seqlens(total="tokens"),
            "cu_seqlens_k": cu_seqlens(total=total_k) if cached else same,
            "max_seqlen_q": literal("tokens"),
            "max_seqlen_k": literal(total_k),
        }
        yield Draft("flash_attn_prefill", PREFILL_TOKENS, _attention_init(shard), inputs, variant)


def flash_attn_decode(shard: Shard) -> Iterator[Draft]:
    """One new token a sequence against the paged cache; `tokens` is the batch size."""
    for variant, context, batches in (("", 1024, DECODE_TOKENS), ("context8192", 8192, DECODE_TOKENS[:-1])):
        dim, dtype = shard.config.head_dim, shard.config.dtype
        pages = context // PAGE_SIZE
        total = f"{pages}*tokens+{SPARE_PAGES}"
        cache = tensor(total, PAGE_SIZE, shard.kv_heads, dim, dtype=dtype)
        inputs = {
            "query": tensor("tokens", shard.heads, dim, dtype=dtype),
            "key_cache": cache,
            "value_cache": cache,
            "block_table": tensor("tokens", pages, dtype="int32", values="block_table", pages=total),
            "seqused_k": tensor("tokens", dtype="int32", values="seqused_k", max=context),
            "max_seqlen_k": literal(context),
        }
        yield Draft("flash_attn_decode", batches, _attention_init(shard), inputs, variant)


_BUILDERS: dict[str, Callable[[Shard], Iterator[Draft]]] = {
    "rms_norm": rms_norm,
    "silu_and_mul": silu_and_mul,
    "gelu_and_mul": gelu_and_mul,
    "rotary_emb": rotary_emb,
    "linear": linear,
    "embedding": embedding,
    "topk_softmax": topk_softmax,
    "store_kvcache": store_kvcache,
    "flash_attn_prefill": flash_attn_prefill,
    "flash_attn_decode": flash_attn_decode,
}

CLASSES = {
    "rms_norm": "RMSNorm",
    "silu_and_mul": "SiluAndMul",
    "gelu_and_mul": "GeluAndMul",
    "rotary_emb": "RotaryEmbedding",
    "linear": "Linear",
    "embedding": "Embedding",
    "topk_softmax": "TopKSoftmax",
    "store_kvcache": "StoreKVCache",
    "flash_attn_prefill": "FlashAttnPrefill",
    "flash_attn_decode": "FlashAttnDecode",
}
"""Class of each operator's file."""
