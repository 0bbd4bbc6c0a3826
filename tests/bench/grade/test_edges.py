"""Edge draws: what each holds for sure, that baselines are unharmed, and that kernels which mind none of it fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fastkernels.bench.grade import CallOutcome, Draw, Judge, make_inputs, plan_draws
from fastkernels.bench.grade.draws import plan_few_draws
from fastkernels.bench.grade.edges import EDGES, FAR, can_be_far, has_edges
from fastkernels.bench.grade.effects import copies
from fastkernels.bench.grade.spoil import NAN
from fastkernels.manifest.scenario import InputSpec, Scenario
from fastkernels.runtime.invoke import invoke
from fastkernels.tasks.baseline.L1.flash_attn_decode import FlashAttnDecode
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill
from fastkernels.tasks.baseline.L1.mla_decode import MLADecode
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
from fastkernels.tasks.baseline.L1.store_kvcache import StoreKVCache
from fastkernels.tasks.baseline.L2.attention import Attention

CPU = torch.device("cpu")
HEADS = {"num_heads": 4, "head_size": 32, "scale": 0.2, "num_kv_heads": 2}
SEEDS = range(4)


def spec(name: str, values: str, *shape: int | str, dtype: str = "bfloat16", **args: Any) -> InputSpec:
    return InputSpec(name, values, tuple(shape), dtype if shape else "", args)


def literal(name: str, value: int | str) -> InputSpec:
    return InputSpec(name, "literal", args={"value": value})


CACHES = (spec("key_cache", "normal", "8*tokens+8", 16, 2, 32), spec("value_cache", "normal", "8*tokens+8", 16, 2, 32))
DECODE = (
    spec("query", "normal", "tokens", 4, 32), *CACHES,
    spec("block_table", "block_table", "tokens", 8, dtype="int32", pages="8*tokens+8"),
    spec("seqused_k", "seqused_k", "tokens", dtype="int32", max=128), literal("max_seqlen_k", 128),
)  # fmt: skip
PREFILL = (
    spec("query", "normal", "tokens", 4, 32), spec("key", "normal", "tokens", 2, 32),
    spec("value", "normal", "tokens", 2, 32),
    spec("cu_seqlens_q", "cu_seqlens", 2, dtype="int32", total="tokens", sequences=1),
    spec("cu_seqlens_k", "same_as", 2, dtype="int32", of="cu_seqlens_q"),
    literal("max_seqlen_q", "tokens"), literal("max_seqlen_k", "tokens"),
)  # fmt: skip
STORE = (
    spec("key", "normal", "tokens", 2, 32), spec("value", "normal", "tokens", 2, 32), *CACHES,
    spec("slot_mapping", "slot_mapping", "tokens", dtype="int64", slots="16*tokens+128"),
)  # fmt: skip
LATENT = (
    spec("query", "normal", "tokens", 2, 48), spec("kv_cache", "normal", "8*tokens+8", 16, 48), *DECODE[3:],
)  # fmt: skip
CONTEXT = tuple(
    InputSpec(f"context.{found.name}", found.values, found.shape, found.dtype, found.args)
    for found in (DECODE[3], DECODE[4], literal("num_decodes", "tokens"), literal("max_seqlen_k", 128),
                  spec("slot_mapping", "batch_slots", "tokens", dtype="int64", page_size=16), *CACHES)
)  # fmt: skip
PROMPT = tuple(
    InputSpec(f"context.{found.name}", found.values, found.shape, found.dtype, found.args)
    for found in (PREFILL[3], spec("cu_seqlens_k", "cu_seqlens", 2, dtype="int32", total="tokens", sequences=1),
                  literal("max_seqlen_q", "tokens"), literal("prefill_max_seqlen_k", "tokens"),
                  spec("slot_mapping", "batch_slots", "tokens", dtype="int64", page_size=16, pages=99),
                  *(InputSpec(cache.name, "normal", (99, *cache.shape[1:]), cache.dtype) for cache in CACHES))
)  # fmt: skip
ROWS = (
    spec("query", "normal", "tokens", 128), spec("key", "normal", "tokens", 64),
    spec("value", "normal", "tokens", 64),
)  # fmt: skip
Task = tuple[Callable[[], nn.Module], tuple[InputSpec, ...], int, dict[str, Any]]
TASKS: dict[str, Task] = {
    "decode": (lambda: FlashAttnDecode(**HEADS), DECODE, 1, HEADS),
    "window": (lambda: FlashAttnDecode(**HEADS, sliding_window=40), DECODE, 1, {**HEADS, "sliding_window": 40}),
    "sinks": (lambda: FlashAttnDecode(**HEADS), (*DECODE, spec("sinks", "normal", 4, mean=4.0)), 1, HEADS),
    "latent": (lambda: MLADecode(2, 32, 16, 0.2), LATENT, 1, {"scale": 0.2}),
    "prefill": (lambda: FlashAttnPrefill(**HEADS), PREFILL, 1, HEADS),
    "store": (StoreKVCache, STORE, 1, {}),
    "attention": (lambda: Attention(4, 32, 0.2, 2), (*CONTEXT, *ROWS), 2, HEADS),
    "attention, prompt": (lambda: Attention(4, 32, 0.2, 2, 40), (*PROMPT, *ROWS), 2, HEADS),
}


def draws_of(task: str, *kinds: str, scenario_of: Callable[..., Scenario]) -> Any:
    """(module, scenario, draw, inputs) of each draw of these kinds that a grading has, with several seeds."""
    build, specs, level, init = TASKS[task]
    module, scenario = build(), scenario_of(*specs, level=level, tokens=8)
    object.__setattr__(scenario, "init", init)
    for seed in SEEDS:
        for draw in plan_draws(scenario, seed, "cpu"):
            if draw.hard in kinds:
                yield module, scenario, draw, make_inputs(scenario, draw, CPU, module)


def verdicts(task: str, kernel: Callable[..., Any] | None, kind: str, scenario_of: Callable[..., Scenario]) -> set[str]:
    """What a kernel gets in the draws of this kind; None: the baseline itself."""
    found = set()
    for module, scenario, draw, inputs in draws_of(task, kind, scenario_of=scenario_of):
        after = copies(inputs)
        with torch.inference_mode():
            outputs = invoke(module, after) if kernel is None else kernel(module, **after)
        found.add(str(Judge(module, scenario).judge(inputs, CallOutcome(outputs, after), draw).verdict))
    return found


@pytest.mark.parametrize("kind", [EDGES, FAR])
@pytest.mark.parametrize("task", TASKS)
def test_baselines_are_unharmed(scenario_of, task, kind):
    assert verdicts(task, None, kind, scenario_of) == (set() if (task, kind) == ("prefill", FAR) else {"passed"})


@pytest.mark.parametrize("task", ["decode", "window", "attention"])
def test_every_grading_has_each_length(scenario_of, task):
    for _, _, _, inputs in draws_of(task, EDGES, scenario_of=scenario_of):
        lengths = inputs.get("seqused_k", inputs.get("context.seqused_k")).tolist()
        assert {0, 1} <= set(lengths)
        assert any(0 < length < 16 for length in lengths)
        assert any(length and length % 16 == 0 for length in lengths)
        assert task != "window" or any(length > 40 for length in lengths)


@pytest.mark.parametrize("kind", [EDGES, FAR])
@pytest.mark.parametrize("task", ["decode", "window", "sinks", "latent", "attention"])
def test_every_entry_of_a_table_is_a_page_of_the_cache(scenario_of, task, kind):
    """Honest kernels gather whole rows of the table and mask afterwards."""
    for _, _, _, inputs in draws_of(task, kind, scenario_of=scenario_of):
        table = next(value for name, value in inputs.items() if name.endswith("block_table"))
        cache = next(value for name, value in inputs.items() if name.endswith("_cache"))
        assert table.min() >= 0
        assert table.max() < len(cache)


@pytest.mark.parametrize("kind", [EDGES, FAR])
def test_tables_hold_pages_of_others_and_of_nobody_past_the_last_page_and_before_the_window(scenario_of, kind):
    for _, _, _, inputs in draws_of("window", kind, scenario_of=scenario_of):
        seen, own, last = set(), set(), len(inputs["key_cache"]) - 1
        for used, pages in zip(inputs["seqused_k"].tolist(), inputs["block_table"].tolist(), strict=True):
            begin, end = max(0, used - 40) // 16, -(-used // 16)
            seen |= {*pages[:begin], *pages[end:]}
            own |= {*pages[begin:end]}
        assert {0, last} <= seen
        assert not {0, last} & own
        assert seen & own


@pytest.mark.parametrize("task", ["decode", "window", "latent", "store", "attention"])
def test_what_nobody_reads_is_nan_and_infinite(scenario_of, task):
    for _, _, _, inputs in draws_of(task, EDGES, scenario_of=scenario_of):
        cache = next(value for name, value in inputs.items() if name.endswith("_cache"))
        assert cache.isnan().any()
        assert cache.isinf().any()


@pytest.mark.parametrize("task", ["prefill", "attention, prompt"])
def test_several_chunks_have_lengths_and_cached_tokens_of_their_own(scenario_of, task):
    for _, _, _, inputs in draws_of(task, EDGES, scenario_of=scenario_of):
        new, keys = (next(value for name, value in inputs.items() if name.endswith(end)).diff().tolist()
                     for end in ("cu_seqlens_q", "cu_seqlens_k"))
        cached = [a - b for a, b in zip(keys, new, strict=True)]
        assert len(new) == len(set(new)) == len(set(cached)) == 4
        assert min(cached) == 0
        assert 1 in new
        assert any(extra and length % 16 == 0 for extra, length in zip(cached, keys, strict=True))


@pytest.mark.parametrize("task", ["store", "attention", "attention, prompt"])
def test_every_grading_has_padding_whose_rows_would_be_seen(scenario_of, task):
    for _, _, _, inputs in draws_of(task, EDGES, scenario_of=scenario_of):
        slots = next(value for name, value in inputs.items() if name.endswith("slot_mapping"))
        cache = next(value for name, value in inputs.items() if name.endswith("key_cache"))
        assert (slots < 0).any()
        assert (slots >= 0).any()
        assert ((slots < 0) | (slots // 16 > 0) & (slots // 16 < len(cache) - 1)).all()


@pytest.mark.parametrize("task", ["decode", "sinks", "latent", "prefill", "attention"])
def test_scores_pass_the_largest_exponential(scenario_of, task):
    for module, _, _, inputs in draws_of(task, EDGES, scenario_of=scenario_of):
        keys = next(value for name, value in inputs.items() if name.endswith(("key_cache", "kv_cache", "key")))
        size = keys.shape[-1]
        queries, rows = (x.float().nan_to_num(0, 0, 0).view(-1, size) for x in (inputs["query"], keys))
        best = (queries @ rows.T).abs().max()
        assert best * (module.decode.scale if isinstance(module, Attention) else module.scale) > 89


def weighs_by_zero(module: FlashAttnDecode, query, key_cache, value_cache, block_table, seqused_k, **_: Any) -> Any:
    keys, values = (cache[block_table.long()].flatten(1, 2).float() for cache in (key_cache, value_cache))
    q = query.float().view(len(query), 2, 2, 32)
    hidden = torch.arange(keys.shape[1]) >= seqused_k[:, None]
    scores = torch.einsum("bhgd,bkhd->bhgk", q, keys) * module.scale
    weights = scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1).nan_to_num(0.0)
    return torch.einsum("bhgk,bkhd->bhgd", weights, values).reshape(query.shape).to(query.dtype)


def without_maximum(module: FlashAttnDecode, query, key_cache, value_cache, block_table, seqused_k, **_: Any) -> Any:
    out = torch.zeros_like(query)
    for row, used in enumerate(seqused_k.tolist()):
        pages = block_table[row, : -(-used // 16)].long()
        keys, values = (cache[pages].flatten(0, 1)[:used].float() for cache in (key_cache, value_cache))
        weights = torch.exp(query[row].float().view(2, 2, 32) @ keys.permute(1, 2, 0) * module.scale)
        found = weights @ values.transpose(0, 1) / weights.sum(-1, keepdim=True)
        out[row] = found.reshape(4, 32).to(query.dtype) if used else 0
    return out


def nan_for_nothing(module: FlashAttnDecode, seqused_k, **inputs: Any) -> Any:
    out = module(seqused_k=seqused_k, **inputs)
    out[seqused_k == 0] = torch.nan
    return out


@pytest.mark.parametrize("kernel", [weighs_by_zero, without_maximum, nan_for_nothing])
def test_kernels_that_mind_no_edge_fail_in_every_grading(scenario_of, kernel):
    assert verdicts("decode", kernel, EDGES, scenario_of) == {"wrong_nonfinite"}


def longest_mask(module: FlashAttnPrefill, query, key, value, cu_seqlens_q, cu_seqlens_k, **_: Any) -> Any:
    """Every sequence's mask as if its keys were as many more than its rows as those of the longest are."""
    rows, keys = cu_seqlens_q.diff(), cu_seqlens_k.diff()
    shift, outputs = int(keys.max() - rows.max()), []
    for q, k, v in zip(query.split(rows.tolist()), key.split(keys.tolist()), value.split(keys.tolist()), strict=True):
        outputs.append(module.attend(q, k, v, shift, None))
    return torch.cat(outputs)


def test_a_mask_of_the_longest_fails_in_every_grading(scenario_of):
    assert verdicts("prefill", longest_mask, EDGES, scenario_of) == {"wrong_values"}


def padding_to_the_last_row(module: StoreKVCache, key, value, key_cache, value_cache, slot_mapping) -> None:
    key_cache[slot_mapping // 16, slot_mapping % 16] = key
    value_cache[slot_mapping // 16, slot_mapping % 16] = value


def test_padding_that_is_written_is_seen_in_every_grading(scenario_of):
    assert verdicts("store", padding_to_the_last_row, EDGES, scenario_of) == {"mutated_input"}


NORM = (spec("x", "normal", "tokens", 64),)


def mean_over_tokens(module: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    return module(x) + 0.0 * x.mean(0)


def test_a_row_of_nan_may_harm_no_other(scenario_of):
    module, scenario = RMSNorm(64, dtype=torch.bfloat16), scenario_of(*NORM, tokens=8)
    plan = [draw for seed in SEEDS for draw in plan_draws(scenario, seed, "cpu") if draw.hard == NAN]
    assert len(plan) == len(SEEDS)
    for draw in plan:
        inputs = make_inputs(scenario, draw, CPU)
        assert int(inputs["x"].isnan().all(1).sum()) == 1
        judge = Judge(module, scenario)
        for outputs, verdict in ((module(inputs["x"]), "passed"), (module(inputs["x"]).nan_to_num(7.0), "passed"),
                                 (mean_over_tokens(module, inputs["x"]), "wrong_nonfinite")):
            assert judge.judge(inputs, CallOutcome(outputs.detach(), copies(inputs)), draw).verdict == verdict


def test_what_has_no_edges_gets_no_such_draw(scenario_of):
    scenario = scenario_of(*NORM)
    assert not has_edges(scenario)
    assert not can_be_far(scenario)
    assert {draw.hard for draw in plan_few_draws(scenario, 1, "cpu")} == {"normal", "large", "tiny", "mixed"}


def test_the_same_seed_gives_the_same_batch(scenario_of):
    _, scenario, draw, inputs = next(draws_of("decode", EDGES, scenario_of=scenario_of))
    again = make_inputs(scenario, Draw(draw.name, draw.tokens, draw.seed, draw.hard), CPU)
    assert torch.equal(again["block_table"], inputs["block_table"])
    assert torch.equal(again["key_cache"].nan_to_num(5.0), inputs["key_cache"].nan_to_num(5.0))
