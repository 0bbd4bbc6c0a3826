"""The entries of the operators of experts: routing and grouped products (level 1), the blocks that join them (2)."""

from collections.abc import Iterator
from typing import Any

from fastkernels.manifest.drafts import ALL_TOKENS, Alias, Draft, Input, tensor, times
from fastkernels.manifest.shard import Shard

CLEAR = {"least": 1.0}
"""Where a bias takes part in the choice, hidden states need a scale to lean by."""
IN_LAYER = {"least": 2.0, "beside": "hidden_states", "margin": 6.0}
"""For the residual of a layer: its router sees the sum with hidden states and attention's output, normalised.

A group's sum doubles attention's output (runtime.parallel.MirroredRank), so that rows of small hidden states need a
residual of its size: tests/bench/grade/test_clear_choices.py."""


def topk_softmax(shard: Shard) -> Iterator[Draft]:
    """The router's choice of experts (replicated)."""
    routing = shard.config.routing
    if routing.num_experts and not routing.grouped:
        init = {"top_k": routing.top_k, "renormalize": routing.renormalize}
        gating = tensor("tokens", routing.num_experts, dtype=shard.config.dtype)
        yield Draft("topk_softmax", ALL_TOKENS, init, {"gating_output": gating})


def grouped_topk(shard: Shard) -> Iterator[Draft]:
    """DeepSeek's choice of experts (replicated)."""
    routing = shard.config.routing
    if routing.grouped:
        init = {
            "topk": routing.top_k,
            "renormalize": routing.renormalize,
            "num_expert_group": routing.groups,
            "topk_group": routing.top_groups,
            "scoring_func": routing.scoring,
            "routed_scaling_factor": routing.scale,
        }
        inputs = {"gating_output": tensor("tokens", routing.num_experts, dtype=shard.config.dtype)}
        if routing.corrected:
            inputs["e_score_correction_bias"] = tensor(routing.num_experts, dtype="float32", values="correction_bias")
        yield Draft("grouped_topk", ALL_TOKENS, init, inputs)


def block_size(rows: int, num_experts: int) -> int:
    """Rows of a block of the grouped product, as the block of experts chooses it; 0 where rows are not sorted."""
    if rows * 4 <= num_experts:
        return 0
    return next((size for size in (16, 32, 64) if rows * 3 <= size * 2 * num_experts), 128)


def moe_align(shard: Shard) -> Iterator[Draft]:
    """The order of rows by expert, for the token counts at which they are sorted at all."""
    routing = shard.config.routing
    for size, counts in _by_block_size(shard):
        if size:
            ids = tensor("tokens", routing.top_k, dtype="int32", values="topk_ids", experts=routing.num_experts)
            inputs = {"topk_ids": ids, "block_size": {"values": "literal", "args": {"value": size}}}
            yield Draft("moe_align", counts, {"num_experts": routing.num_experts}, inputs, f"block{size}")


def moe_grouped_gemm(shard: Shard) -> Iterator[Draft]:
    """Both products of the experts; the second takes one row for each choice, with its weight."""
    config, routing = shard.config, shard.config.routing
    bias, dtype = config.family.expert_bias, config.dtype
    for size, counts in _by_block_size(shard):
        order = _order(shard, size)
        for variant, rows, width, out, top_k in (
            ("w13", "tokens", config.hidden_size, 2 * shard.expert_size, routing.top_k),
            ("w2", times(routing.top_k), shard.expert_size, config.hidden_size, 1),
        ):
            init = {"num_experts": routing.num_experts, "input_size": width, "output_size": out, "top_k": top_k,
                    "bias": bias, "dtype": dtype}  # fmt: skip
            inputs = {"x": tensor(rows, width, dtype=dtype), **order}
            if variant == "w2":
                inputs["topk_weights"] = tensor("tokens", routing.top_k, dtype="float32", values="routing_weights")
            parameters = routing.num_experts * width * out
            name = f"{variant}_block{size}" if size else variant
            yield Draft("moe_grouped_gemm", counts, init, inputs, name, parameters=parameters)


def moe_sum(shard: Shard) -> Iterator[Draft]:
    """The sum over each token's experts."""
    config = shard.config
    if config.routing.num_experts:
        x = tensor("tokens", config.routing.top_k, config.hidden_size, dtype=config.dtype)
        yield Draft("moe_sum", ALL_TOKENS, {}, {"x": x})


def fused_moe(shard: Shard) -> Iterator[Draft]:
    """Experts and their choice, from given router logits."""
    config, routing = shard.config, shard.config.routing
    if not routing.num_experts:
        return
    init: dict[str, Any] = {
        "num_experts": routing.num_experts,
        "top_k": routing.top_k,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.expert_size,
        "params_dtype": config.dtype,
        "renormalize": routing.renormalize,
    }
    if routing.grouped:
        init |= {"use_grouped_topk": True, "scoring_func": routing.scoring, "routed_scaling_factor": routing.scale}
        if routing.groups > 1:
            init |= {"num_expert_group": routing.groups, "topk_group": routing.top_groups}
    if config.family.expert_bias:
        init |= {"activation": "swigluoai", "has_bias": True}
    choice = {"top_k": routing.top_k, **_groups(shard)}
    inputs = {"hidden_states": tensor("tokens", config.hidden_size, dtype=config.dtype)}
    if routing.corrected:
        inputs["e_score_correction_bias"] = tensor(routing.num_experts, dtype="float32", values="correction_bias")
        choice["correction"] = "e_score_correction_bias"
    inputs["router_logits"] = tensor(
        "tokens", routing.num_experts, dtype=config.dtype, values="router_logits", **choice)
    yield Draft("fused_moe", ALL_TOKENS, init, inputs, parameters=experts_parameters(shard))


def block_of_experts(shard: Shard, op: str) -> Iterator[Draft]:
    """The family's block: router, experts, shared experts."""
    config, routing = shard.config, shard.config.routing
    if config.family.moe != op or not routing.num_experts:
        return
    init: dict[str, Any] = {"config": Alias(config.name), "dtype": config.dtype}
    if op == "mixtral_moe":
        init = {"num_experts": routing.num_experts, "top_k": routing.top_k, "hidden_size": config.hidden_size,
                "intermediate_size": config.expert_size, "params_dtype": config.dtype}  # fmt: skip
    name = "x" if op == "gpt_oss_moe" else "hidden_states"
    inputs = {name: tensor("tokens", config.hidden_size, dtype=config.dtype, values="routed", **router(shard, ""))}
    yield Draft(op, ALL_TOKENS, init, inputs, parameters=block_parameters(shard))


def router(shard: Shard, prefix: str) -> dict[str, Any]:
    """Return the arguments of `routed` for the router below `prefix`.

    Where a bias takes part in the choice, logits must not vanish beside it in draws of tiny values.
    """
    name, routing = f"{prefix}{shard.config.family.router}", shard.config.routing
    found: dict[str, Any] = {"gate": f"{name}.weight", "top_k": routing.top_k, **_groups(shard)}
    if shard.config.family.expert_bias:
        found["bias"] = f"{name}.bias"
    return {**found, **CLEAR} if shard.config.family.expert_bias or routing.corrected else found


def block_parameters(shard: Shard) -> int:
    """Weights of the family's block of experts at TP 1."""
    config, routing = shard.config, shard.config.routing
    shared = 3 * config.hidden_size * routing.num_shared * config.expert_size
    return experts_parameters(shard) + shared + config.hidden_size * routing.num_experts


def experts_parameters(shard: Shard) -> int:
    """Weights of all experts at TP 1."""
    return 3 * shard.config.hidden_size * shard.config.expert_size * shard.config.routing.num_experts


def _groups(shard: Shard) -> dict[str, Any]:
    routing = shard.config.routing
    return {"groups": routing.groups, "top_groups": routing.top_groups} if routing.groups > 1 else {}


def _by_block_size(shard: Shard) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Token counts by the block size that the block of experts chooses there."""
    routing = shard.config.routing
    found: dict[int, list[int]] = {}
    for tokens in ALL_TOKENS if routing.num_experts else ():
        found.setdefault(block_size(tokens * routing.top_k, routing.num_experts), []).append(tokens)
    yield from ((size, tuple(counts)) for size, counts in found.items())


def _order(shard: Shard, size: int) -> dict[str, Input]:
    """The rows' order; shapes are the most that there can be."""
    routing = shard.config.routing
    choice = {"experts": routing.num_experts, "top_k": routing.top_k}
    if not size:
        ids = tensor(times(routing.top_k), dtype="int32", values="expert_choices", **choice)
        return {"sorted_token_ids": {"values": "literal", "args": {"value": None}}, "expert_ids": ids}
    choice["block_size"] = size
    padded = f"{times(routing.top_k)}+{routing.num_experts * size}"
    blocks = f"{times(routing.top_k)}+{routing.num_experts}"
    return {
        "sorted_token_ids": tensor(padded, dtype="int32", values="sorted_token_ids", **choice),
        "expert_ids": tensor(blocks, dtype="int32", values="block_experts", **choice),
        "num_tokens_post_padded": tensor(1, dtype="int32", values="padded_rows", **choice),
    }
