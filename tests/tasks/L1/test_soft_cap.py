"""Soft-capped scores in flash_attn_prefill and flash_attn_decode: a plain formula, interpreter, compiler."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.flash_attn_decode import FlashAttnDecode, flash_attn_decode_kernel
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill, flash_attn_prefill_kernel

HEADS, KV_HEADS, DIM, SCALE, PAGE, KEYS, ROWS = 4, 2, 16, 0.5, 16, 70, 5
INIT = {"num_heads": HEADS, "head_size": DIM, "scale": SCALE, "num_kv_heads": KV_HEADS}
KINDS = {"prefill": FlashAttnPrefill, "decode": FlashAttnDecode}
WRONG = (("CAP * (1.0 - 2.0", "CAP * (1.0 - 1.0"), ("2.0 * LOG2_E / CAP", "LOG2_E / CAP"), ("if CAP > 0", "if CAP < 0"))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def given(kind, device="cpu"):
    """ROWS queries after KEYS - ROWS keys of one sequence; for a decode each is a sequence, with one key more each."""
    query, (keys, values) = torch.randn(ROWS, HEADS, DIM), torch.randn(2, KEYS, KV_HEADS, DIM)
    if kind == "prefill":
        more = {"cu_seqlens_q": torch.tensor([0, ROWS], dtype=torch.int32),
                "cu_seqlens_k": torch.tensor([0, KEYS], dtype=torch.int32), "max_seqlen_q": ROWS, "max_seqlen_k": KEYS}
        found = {"query": query, "key": keys, "value": values, **more}
    else:
        pages = -(-KEYS // PAGE)
        caches = torch.zeros(2, pages * PAGE, KV_HEADS, DIM)
        caches[0, :KEYS], caches[1, :KEYS] = keys, values
        key_cache, value_cache = caches.view(2, pages, PAGE, KV_HEADS, DIM)
        found = {"query": query, "key_cache": key_cache, "value_cache": value_cache,
                 "block_table": torch.arange(pages, dtype=torch.int32).repeat(ROWS, 1),
                 "seqused_k": torch.arange(KEYS - ROWS + 1, KEYS + 1, dtype=torch.int32), "max_seqlen_k": KEYS}
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in found.items()}


def expected(inputs, cap, window=None, sinks=None):
    """softmax(cap tanh(s / cap)) V in float64, a row at a time."""
    names = ("key", "value") if "key" in inputs else ("key_cache", "value_cache")
    keys, values = (inputs[name].double().reshape(-1, KV_HEADS, DIM)[:KEYS] for name in names)
    keys, values = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (keys, values))
    rows = []
    for row, q in enumerate(inputs["query"].double()):
        last = KEYS - ROWS + 1 + row
        seen = slice(max(0, last - (window or last)), last)
        scores = torch.einsum("hd,khd->hk", q, keys[seen]) * SCALE
        scores = cap * torch.tanh(scores / cap)
        if sinks is not None:
            scores = torch.cat((scores, sinks.double()[:, None]), dim=1)
        weights = torch.softmax(scores, dim=1)[:, : last - seen.start]
        rows.append(torch.einsum("hk,khd->hd", weights, values[seen]))
    return torch.stack(rows)


def close(got, want):
    torch.testing.assert_close(got.double().cpu(), want.cpu(), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("window", "with_sinks"), [(None, False), (40, True)])
def test_native_is_the_formula(kind, window, with_sinks):
    inputs, sinks = given(kind), torch.randn(HEADS) if with_sinks else None
    op = KINDS[kind](**INIT, sliding_window=window, logits_soft_cap=2.0)
    close(op(**inputs, sinks=sinks), expected(inputs, 2.0, window, sinks))


def test_another_cap_and_none_are_found(kind):
    inputs = given(kind)
    for cap in (None, 2.2):
        with pytest.raises(AssertionError, match="not close"):
            close(KINDS[kind](**INIT, logits_soft_cap=cap)(**inputs), expected(inputs, 2.0))


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan")])
def test_a_cap_that_is_none_is_an_error(kind, cap):
    with pytest.raises(ValueError, match=r"logits_soft_cap: .* is not over 0 \(None: scores as they are\)"):
        KINDS[kind](**INIT, logits_soft_cap=cap)


def run(interpreter, kind, inputs, init, replace=()):
    settings = {"WAVES": 100, "BLOCK_N": 32} if kind == "decode" else {}
    return interpreter(KINDS[kind](**init), init, inputs, settings=settings, replace=replace)[0]


@pytest.mark.parametrize("window", [None, 40])
def test_kernel_in_the_interpreter(interpreter, kind, window):
    inputs, init = given(kind), INIT | {"logits_soft_cap": 2.0, "sliding_window": window}
    close(run(interpreter, kind, inputs, init), expected(inputs, 2.0, window))


def test_scores_far_over_the_cap_stay_finite(interpreter, kind):
    inputs, init = given(kind), INIT | {"logits_soft_cap": 2.0}
    inputs["query"] *= 1e4
    close(run(interpreter, kind, inputs, init), expected(inputs, 2.0))


@pytest.mark.parametrize("mutation", WRONG)
def test_a_wrong_cap_in_the_kernel_is_found(interpreter, kind, mutation):
    inputs, init = given(kind), INIT | {"logits_soft_cap": 2.0}
    got = run(interpreter, kind, inputs, init, (mutation,))
    with pytest.raises(AssertionError, match="not close"):
        close(got, expected(inputs, 2.0))


def test_kernels_compile_for_hopper(compile_for_hopper):
    """At Gemma 2's sizes: 16 query and 8 KV heads of 256, a cap of 50."""
    pointers = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), "*bf16")
    shared = {"WINDOW": 4096, "CAP": 72.13, "BLOCK_D": 256, "BLOCK_N": 32, "D": 256, "sinks_ptr": None}
    types = dict.fromkeys(flash_attn_decode_kernel.arg_names, "i32") | pointers | {"scale_log2e": "fp32"}
    types |= dict.fromkeys(("table_ptr", "used_ptr"), "*i32") | dict.fromkeys(("part_ptr", "lse_ptr"), "*fp32")
    constants = shared | {"KV_HEADS": 8, "GROUP": 2, "PAGE": 16, "PARTIAL": True, "BLOCK_H": 16}
    assert "ex2.approx" in compile_for_hopper(flash_attn_decode_kernel, types, constants).ptx
    types = dict.fromkeys(flash_attn_prefill_kernel.arg_names, "i32") | pointers | {"scale_log2e": "fp32"}
    types |= dict.fromkeys(("cu_q_ptr", "cu_k_ptr"), "*i32")
    constants = shared | {"HEADS": 16, "GROUP": 2, "PACK": 2, "DV": 256, "BLOCK_DV": 256, "BLOCK_M": 32}
    assert "mma.sync" in compile_for_hopper(flash_attn_prefill_kernel, types, constants).ptx


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 40])
def test_cuda_agrees(kind, window):
    inputs = given(kind, "cuda")
    op = KINDS[kind](**INIT, sliding_window=window, logits_soft_cap=2.0)
    close(op(**inputs), expected(inputs, 2.0, window))
