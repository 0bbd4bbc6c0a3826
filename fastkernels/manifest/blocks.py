"""The entries of level 2 and 3 for one model at one TP degree: parallel layers, attention, MLPs, decoder layers.

Init arguments are the whole model's, as vLLM's classes take them; each rank's share follows from the TP degree.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fastkernels.manifest import moe
from fastkernels.manifest.config import Layer
from fastkernels.manifest.contexts import batches, positions
from fastkernels.manifest.drafts import ALL_TOKENS, DECODE_TOKENS, Alias, Draft, literal, sliced, tensor
from fastkernels.manifest.operators import (
    as_key,
    as_query,
    attention_init,
    attention_layers,
    position_variant,
    scores_of_size,
    window_variant,
)
from fastkernels.manifest.shard import Shard


def qkv_parallel_linear(shard: Shard) -> Iterator[Draft]:
    """The fused projection of query, key and value."""
    config = shard.config
    if config.latent is not None:
        return
    init = {
        "hidden_size": config.hidden_size,
        "head_size": config.head_dim,
        "total_num_heads": config.num_heads,
        "total_num_kv_heads": config.num_kv_heads,
        "bias": config.qkv_bias,
        "params_dtype": config.dtype,
    }
    x = tensor("tokens", config.hidden_size, dtype=config.dtype)
    yield Draft("qkv_parallel_linear", ALL_TOKENS, init, {"x": x}, parameters=_qkv(shard))


def merged_column_parallel_linear(shard: Shard) -> Iterator[Draft]:
    """The fused projection of gate and up, of dense and of shared MLPs."""
    config = shard.config
    for variant, width, bias in _mlps(shard) if config.family.gated else ():
        init = {"input_size": config.hidden_size, "output_sizes": [width, width], "bias": bias,
                "params_dtype": config.dtype}  # fmt: skip
        x = tensor("tokens", config.hidden_size, dtype=config.dtype)
        yield Draft("merged_column_parallel_linear", ALL_TOKENS, init, {"x": x}, variant,
                    parameters=2 * config.hidden_size * width)  # fmt: skip


def row_parallel_linear(shard: Shard) -> Iterator[Draft]:
    """The output projections of attention and of MLPs."""
    config = shard.config
    out = config.num_heads * (config.latent.v_head_dim if config.latent else config.head_dim)
    name = "down_proj" if config.family.gated else "c_proj"
    down = [(f"{variant}_{name}".lstrip("_"), width, bias) for variant, width, bias in _mlps(shard)]
    for variant, width, bias in [("o_proj", out, config.o_bias), *down]:
        init = {"input_size": width, "output_size": config.hidden_size, "bias": bias, "params_dtype": config.dtype}
        x = tensor("tokens", width // shard.tp, dtype=config.dtype)
        yield Draft("row_parallel_linear", ALL_TOKENS, init, {"x": x}, variant, parameters=width * config.hidden_size)


def replicated_linear(shard: Shard) -> Iterator[Draft]:
    """The router, and the projection to the latents of keys and values where it stands alone."""
    config, latent, experts = shard.config, shard.config.latent, shard.config.routing.num_experts
    layers = [("gate", experts, config.family.expert_bias)] if experts else []
    if latent is not None and not latent.q_lora_rank:
        layers.append(("kv_a_proj_with_mqa", latent.kv_lora_rank + latent.qk_rope_head_dim, config.qkv_bias))
    for variant, width, bias in layers:
        yield _projection(shard, "replicated_linear", config.hidden_size, width, bias, variant)


def column_parallel_linear(shard: Shard) -> Iterator[Draft]:
    """The projections of latent attention to its heads, and the first of an MLP without a gate."""
    config, latent = shard.config, shard.config.latent
    if not config.family.gated:
        yield _projection(shard, "column_parallel_linear", config.hidden_size, config.intermediate_size,
                          config.mlp_bias, "c_fc")  # fmt: skip
    if latent is None:
        return
    head = latent.qk_nope_head_dim + latent.qk_rope_head_dim
    rank = latent.q_lora_rank
    for variant, inner, width in (
        ("q_b_proj" if rank else "q_proj", rank or config.hidden_size, head),
        ("kv_b_proj", latent.kv_lora_rank, latent.qk_nope_head_dim + latent.v_head_dim),
    ):
        yield _projection(shard, "column_parallel_linear", inner, config.num_heads * width, False, variant)


def _projection(shard: Shard, op: str, inner: int, width: int, bias: bool, variant: str) -> Draft:
    dtype = shard.config.dtype
    init = {"input_size": inner, "output_size": width, "bias": bias, "params_dtype": dtype}
    return Draft(op, ALL_TOKENS, init, {"x": tensor("tokens", inner, dtype=dtype)}, variant, parameters=inner * width)


def vocab_parallel_embedding(shard: Shard) -> Iterator[Draft]:
    """The embedding; ids are those of the whole vocabulary, of which a rank holds a part."""
    config = shard.config
    local = {"local": shard.vocab_size} if shard.tp > 1 else {}
    ids = tensor("tokens", dtype="int64", values="token_ids", vocab=config.vocab_size, **local)
    yield Draft("vocab_parallel_embedding", ALL_TOKENS, _vocabulary(shard), {"input_ids": ids},
                parameters=config.vocab_size * config.hidden_size)  # fmt: skip


def parallel_lm_head(shard: Shard) -> Iterator[Draft]:
    """The logits of each sequence's last token."""
    config = shard.config
    x = tensor("tokens", config.hidden_size, dtype=config.dtype)
    yield Draft("parallel_lm_head", DECODE_TOKENS, _vocabulary(shard), {"hidden_states": x},
                parameters=config.vocab_size * config.hidden_size)  # fmt: skip


def dense_mlp(shard: Shard, op: str) -> Iterator[Draft]:
    """The family's MLP, of dense layers and of shared experts."""
    config = shard.config
    if config.family.mlp != op and not (op == "llama_mlp" and config.routing.num_shared):
        return
    if not config.family.gated:
        x = tensor("tokens", config.hidden_size, dtype=config.dtype)
        yield Draft(op, ALL_TOKENS, {"config": Alias(config.name), "dtype": config.dtype}, {"hidden_states": x},
                    parameters=_mlp_parameters(shard))  # fmt: skip
        return
    act = {"hidden_activation" if op == "gemma3_mlp" else "hidden_act": _activation(shard)}
    for variant, width, bias in _mlps(shard):
        init = {"hidden_size": config.hidden_size, "intermediate_size": width, **act, "dtype": config.dtype}
        if op == "llama_mlp":
            init |= {"bias": bias, "reduce_results": variant != "shared"}
        x = tensor("tokens", config.hidden_size, dtype=config.dtype)
        yield Draft(op, ALL_TOKENS, init, {"x": x}, variant, parameters=3 * config.hidden_size * width)


def attention(shard: Shard) -> Iterator[Draft]:
    """Attention proper, with its cache, between the projections."""
    config = shard.config
    if config.family.sinks:
        return  # it takes the owner's parameter, which no manifest can hold; the block has it
    for kind, layer in attention_layers(shard):
        init = attention_init(shard, layer)
        for batch in batches(shard, layer):
            query, key = (tensor(batch.rows, width, dtype=config.dtype) for width in (shard.q_size, shard.kv_size))
            inputs = {"query": scores_of_size(shard, as_query(shard, query)), "key": as_key(shard, key),
                      "value": sliced(key, shard.qkv_size)}  # fmt: skip
            yield Draft("attention", batch.tokens, init, inputs, _variant(kind, batch.variant), batch.context)


ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "llama_attention": ("config", "hidden_size", "num_heads", "num_kv_heads", "max_position_embeddings", "bias",
                        "bias_o_proj", "prefix"),
    "gemma3_attention": ("config", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "max_position_embeddings",
                         "prefix"),
    "gpt_oss_attention": ("config", "prefix"),
    "deepseek_v2_attention": ("config", "hidden_size", "num_heads", "qk_nope_head_dim", "qk_rope_head_dim",
                              "v_head_dim", "q_lora_rank", "kv_lora_rank", "max_position_embeddings", "prefix"),
    "qwen2_attention": ("hidden_size", "num_heads", "num_kv_heads", "rope_parameters", "max_position",
                        "sliding_window"),
    "qwen3_attention": ("hidden_size", "num_heads", "num_kv_heads", "rope_parameters", "max_position", "head_dim",
                        "rms_norm_eps", "qkv_bias", "bias_o_proj"),
    "granite_attention": ("config", "hidden_size", "num_heads", "num_kv_heads", "max_position_embeddings", "bias",
                          "prefix"),
    "smollm3_attention": ("config", "hidden_size", "num_heads", "num_kv_heads", "max_position_embeddings", "bias",
                          "bias_o_proj", "prefix"),
    "olmo2_attention": ("config", "prefix"),
    "gemma2_attention": ("config", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "max_position_embeddings",
                         "attn_logits_soft_cap", "prefix"),
    "starcoder2_attention": ("config", "prefix"),
    "glm4_moe_attention": ("config", "hidden_size", "num_heads", "num_kv_heads", "max_position_embeddings", "head_dim",
                           "rms_norm_eps", "qkv_bias", "use_qk_norm", "prefix"),
}  # fmt: skip
"""Init arguments of each attention block beside dtype, by what `_attention_values` calls them."""


def attention_block(shard: Shard, op: str) -> Iterator[Draft]:
    """The family's attention: projections, rotary embedding, attention."""
    config = shard.config
    if config.family.attention != op:
        return
    for kind, layer in _attention_kinds(shard):
        values = _attention_values(shard, layer)
        init = {name: values[name] for name in ARGUMENTS[op] if name in values}
        for batch in batches(shard, layer):
            inputs = {
                "positions": positions(batch),
                "hidden_states": tensor(batch.rows, config.hidden_size, dtype=config.dtype),
            }
            yield Draft(op, batch.tokens, {**init, "dtype": config.dtype}, inputs, _variant(kind, batch.variant),
                        batch.context, _attention_parameters(shard))  # fmt: skip


def _attention_kinds(shard: Shard) -> Iterator[tuple[str, Layer]]:
    """(variant, layer) of each kind of attention block: by windows and by whether it has positions."""
    seen = set()
    for layer in shard.config.layers if shard.config.latent is None else shard.config.layers[:1]:
        kind = _variant(window_variant(shard, layer), position_variant(shard, layer))
        if kind not in seen:
            seen.add(kind)
            yield kind, layer


def decoder_layer(shard: Shard, op: str) -> Iterator[Draft]:
    """The family's layer, of each kind that the model has."""
    config = shard.config
    if config.family.layer != op:
        return
    mixed = len({layer.experts for layer in config.layers}) > 1
    for layer in config.layers:
        kind = _variant(window_variant(shard, layer), position_variant(shard, layer),
                        _experts_variant(layer) if mixed else "")  # fmt: skip
        init = {"config": Alias(config.name), "prefix": f"model.layers.{layer.index}", "dtype": config.dtype}
        for batch in batches(shard, layer):
            stream = tensor(batch.rows, config.hidden_size, dtype=config.dtype)
            inputs = {"positions": positions(batch), "hidden_states": stream, "residual": stream}
            parameters = layer_parameters(shard, layer)
            if config.family.stream:
                del inputs["residual"]
                yield Draft(op, batch.tokens, init, inputs, _variant(kind, batch.variant), batch.context, parameters)
                continue
            routed = {"values": "routed", "args": {
                **moe.router(shard, "mlp."), "norm": "post_attention_layernorm.weight", **moe.IN_LAYER,
            }} if layer.experts else {}  # fmt: skip
            inputs["residual"] = {**stream, **routed}
            yield Draft(op, batch.tokens, init, inputs, _variant(kind, batch.variant), batch.context, parameters)
            if layer.index == 0 and batch.tokens == DECODE_TOKENS:
                inputs = {**inputs, "hidden_states": {**stream, **_alone(routed)}, "residual": literal(None)}
                yield Draft(op, batch.tokens, init, inputs, _variant(kind, "first"), batch.context, parameters)


def _alone(routed: dict[str, Any]) -> dict[str, Any]:
    """The same for hidden states that have no residual beside them, as in a model's first layer."""
    if not routed:
        return {}
    return {**routed, "args": {name: value for name, value in routed["args"].items() if name != "beside"}}


def _variant(*parts: str) -> str:
    return "_".join(filter(None, parts))


def _experts_variant(layer: Layer) -> str:
    return "moe" if layer.experts else "dense"


def _mlps(shard: Shard) -> Iterator[tuple[str, int, bool]]:
    """(variant, whole intermediate size, bias) of every MLP without routing."""
    config, routing = shard.config, shard.config.routing
    if config.has_dense_mlp:
        yield "", config.intermediate_size, config.mlp_bias
    if routing.num_shared:
        yield "shared", routing.num_shared * config.expert_size, False


def _vocabulary(shard: Shard) -> dict[str, Any]:
    config = shard.config
    return {"num_embeddings": config.vocab_size, "embedding_dim": config.hidden_size, "params_dtype": config.dtype}


def _activation(shard: Shard) -> str:
    raw = shard.config.raw
    return str(raw.get("hidden_activation") or raw["hidden_act"])


def _attention_values(shard: Shard, layer: Layer) -> dict[str, Any]:
    config, latent = shard.config, shard.config.latent
    own: dict[str, Any] = {"sliding_window": layer.window} if layer.window else {}
    if latent is not None:
        own = {**vars(latent), "q_lora_rank": latent.q_lora_rank or None}
    return {
        **own,
        "config": Alias(config.name),
        "hidden_size": config.hidden_size,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position": config.max_position_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_parameters": dict(layer.rope_parameters),
        "rms_norm_eps": config.rms_norm_eps,
        "bias": config.qkv_bias,
        "qkv_bias": config.qkv_bias,
        "use_qk_norm": config.qk_norm,
        "attn_logits_soft_cap": config.soft_cap or None,
        "bias_o_proj": config.o_bias,
        "prefix": f"model.layers.{layer.index}.self_attn",
    }


def _qkv(shard: Shard) -> int:
    config = shard.config
    return config.hidden_size * config.head_dim * (config.num_heads + 2 * config.num_kv_heads)


def _attention_parameters(shard: Shard) -> int:
    """Weights of attention and its table of rotary angles, at TP 1."""
    config, latent = shard.config, shard.config.latent
    if latent is None:
        table = config.max_position_embeddings * config.rotary_dim
        return _qkv(shard) + config.hidden_size * config.head_dim * config.num_heads + table
    head = latent.qk_nope_head_dim + latent.qk_rope_head_dim
    rank = latent.q_lora_rank
    query = (rank or config.hidden_size) * config.num_heads * head + rank * config.hidden_size
    down = config.hidden_size * (latent.kv_lora_rank + latent.qk_rope_head_dim)
    up = latent.kv_lora_rank * config.num_heads * (latent.qk_nope_head_dim + latent.v_head_dim)
    out = config.num_heads * latent.v_head_dim * config.hidden_size
    return query + down + up + out + config.max_position_embeddings * latent.qk_rope_head_dim


def layer_parameters(shard: Shard, layer: Layer) -> int:
    """Weights of a decoder layer at TP 1."""
    if layer.experts:
        return _attention_parameters(shard) + moe.block_parameters(shard)
    return _attention_parameters(shard) + _mlp_parameters(shard)


def _mlp_parameters(shard: Shard) -> int:
    """Weights of the dense MLP at TP 1."""
    config = shard.config
    return (3 if config.family.gated else 2) * config.hidden_size * config.intermediate_size
