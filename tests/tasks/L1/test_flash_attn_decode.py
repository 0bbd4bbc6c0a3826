"""flash_attn_decode against float64 SDPA, its kernels in the interpreter and compiled for Hopper."""

import pytest
import torch
import torch.nn.functional as F
from suite import exhaustive

from fastkernels.tasks.baseline.L1.flash_attn_decode import (
    MAX_SPLITS,
    FlashAttnDecode,
    flash_attn_combine_kernel,
    flash_attn_decode_kernel,
    split_count,
)


def made(heads, kv_heads, dim, window=None):
    return FlashAttnDecode(heads, dim, dim**-0.5, kv_heads, window)


def given(op, used, page_size=16, dtype=torch.float32, device="cpu", slack=0, sinks=False):
    """Pages in random order; what no sequence uses holds NaN, as do tokens before the window; table entries past the
    last page and of pages before the window point nowhere."""
    per_sequence = -(-max(used) // page_size) + slack
    pages = len(used) * per_sequence + 3
    table = torch.randperm(pages)[: len(used) * per_sequence].view(len(used), per_sequence).int()
    caches = torch.full((2, pages, page_size, op.num_kv_heads, op.head_size), float("nan"))
    for row, count in zip(table.tolist(), used, strict=True):
        for at in range(op.begin(count), count):
            caches[:, row[at // page_size], at % page_size] = torch.randn(2, op.num_kv_heads, op.head_size)
    for row, count in zip(table, used, strict=True):
        row[-(-count // page_size) :] = 2**30
        row[: op.begin(count) // page_size] = -(2**30)
    more = {"sinks": (2 * torch.randn(op.num_heads, device=device)).to(dtype)} if sinks else {}
    caches = caches.to(device=device, dtype=dtype)
    return {
        "query": torch.randn(len(used), op.num_heads, op.head_size, device=device).to(dtype), "key_cache": caches[0],
        "value_cache": caches[1], "block_table": table.to(device),
        "seqused_k": torch.tensor(used, dtype=torch.int32, device=device), "max_seqlen_k": max(used) + slack,
        **more,
    }  # fmt: skip


def expected(op, inputs, moved=0):
    """Torch's SDPA in float64, a sequence at a time; `moved` turns the page table by as many entries.

    The window is a slice of the keys; a sink is one more key whose value is zero, with its logit in one more channel.
    """
    out = torch.zeros_like(inputs["query"], dtype=torch.float64)
    page_size = inputs["key_cache"].shape[1]
    for seq, used in enumerate(inputs["seqused_k"].tolist()):
        if used:
            begin = max(0, used - (op.sliding_window or used))
            pages = inputs["block_table"][seq].long()[begin // page_size : -(-used // page_size)].roll(moved)
            lead = begin % page_size
            k, v = (
                inputs[name][pages].flatten(0, 1)[lead : lead + used - begin].double().transpose(0, 1)
                for name in ("key_cache", "value_cache")
            )
            q = inputs["query"][seq].double().unsqueeze(1)
            out[seq] = sdpa(q, k, v, op.scale, inputs.get("sinks")).squeeze(1)
    return out


def sdpa(q, k, v, scale, sinks):
    """q: [Hq, 1, D], k and v: [Hkv, S, D]."""
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    if sinks is not None:
        q = F.pad(q, (0, 1), value=1.0)
        k, v = F.pad(k, (0, 1, 1, 0)), F.pad(v, (0, 0, 1, 0))
        k[:, 0, -1] = sinks.double() / scale
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def check(got, want):
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[got.dtype]
    torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 4, 16), (8, 2, 32), (7, 1, 24)])
@pytest.mark.parametrize(("used", "page_size"), [([1], 16), ([16, 0, 37, 1], 16), ([9, 30], 4)])
def test_native_agrees_with_sdpa(dtype, heads, kv_heads, dim, used, page_size):
    op = made(heads, kv_heads, dim)
    inputs = given(op, used, page_size, dtype, slack=2)
    got = op(**inputs)
    assert got.dtype == dtype
    check(got, expected(op, inputs))


def test_a_moved_page_table_a_token_less_and_swapped_heads_are_found():
    op = made(4, 2, 16)
    inputs = given(op, [48, 48])
    got = op(**inputs)
    check(got, expected(op, inputs))
    fewer = {**inputs, "seqused_k": inputs["seqused_k"] - 1}
    swapped = {**inputs, "value_cache": inputs["value_cache"].flip(2)}
    for changed, moved in ((inputs | {"key_cache": inputs["key_cache"].roll(1, 0)}, 0), (fewer, 0), (swapped, 0)):
        with pytest.raises(AssertionError, match="not close"):
            check(got, expected(op, changed, moved))
    # Attention does not depend on the order of whole pages, but does on which tokens of the last one count.
    uneven = given(op, [40, 40])
    with pytest.raises(AssertionError, match=r"not close|nan"):
        check(op(**uneven), expected(op, uneven, moved=1))


@pytest.mark.parametrize("window", [1, 5, 16, 17, 100])
@pytest.mark.parametrize("sinks", [False, True])
def test_native_with_a_window_and_sinks(window, sinks):
    op = made(8, 2, 32, window)
    inputs = given(op, [16, 0, 37, 1, 18], sinks=sinks, slack=1)
    check(op(**inputs), expected(op, inputs))


def test_a_window_one_off_and_lost_or_scaled_sinks_are_found():
    op = made(4, 2, 16, 8)
    inputs = given(op, [48, 9], sinks=True)
    want = expected(op, inputs)
    halved = {**inputs, "sinks": inputs["sinks"] / 2}
    lost = {name: value for name, value in inputs.items() if name != "sinks"}
    for other, changed in ((made(4, 2, 16, 7), inputs), (op, halved), (op, lost)):
        with pytest.raises(AssertionError, match="not close"):
            check(other(**changed), want)


def test_a_window_that_is_none_is_an_error():
    with pytest.raises(ValueError, match=r"sliding_window: 0 is not 1 or more \(None: every key\)"):
        made(4, 2, 16, 0)


def test_window_and_sinks_equal_gpt_oss_of_hugging_face():
    """The last row of a prompt of 37 tokens, with transformers' own mask of its sliding layers."""
    transformers = pytest.importorskip("transformers")
    from transformers.masking_utils import sliding_window_causal_mask_function
    from transformers.models.gpt_oss import modeling_gpt_oss

    op = made(8, 2, 64, 5)
    inputs = given(op, [37], sinks=True)
    pages = inputs["block_table"][0].long()
    keys, values = (inputs[n][pages.clamp(0)].flatten(0, 1)[:37].nan_to_num() for n in ("key_cache", "value_cache"))
    module = torch.nn.Module()
    module.sinks, module.num_key_value_groups = inputs["sinks"], 4
    module.eval()
    sees = sliding_window_causal_mask_function(5)
    at = torch.tensor
    mask = torch.where(sees(at(0), at(0), at(36), torch.arange(37)), 0.0, float("-inf"))[None, None, None]
    got, _ = modeling_gpt_oss.eager_attention_forward(
        module, inputs["query"].transpose(0, 1)[None], keys.transpose(0, 1)[None], values.transpose(0, 1)[None], mask,
        op.scale,
    )  # fmt: skip
    assert transformers.GptOssConfig().sliding_window == 128
    torch.testing.assert_close(op(**inputs), got[0], atol=1e-5, rtol=1e-5)


def run(interpreter, op, inputs, **kwargs):
    init = {"num_heads": op.num_heads, "head_size": op.head_size, "scale": op.scale, "num_kv_heads": op.num_kv_heads,
            "sliding_window": op.sliding_window}
    return interpreter(op, init, inputs, **kwargs)[0]


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(8, 2, 64), (7, 1, 24), *exhaustive((3, 3, 96), (20, 1, 128))])
@pytest.mark.parametrize(
    ("used", "page_size", "waves"), [([70, 0, 1], 16, 0), ([70, 0, 1, 129, 16], 16, 100), ([33], 4, 100)]
)
def test_kernel_in_the_interpreter(interpreter, heads, kv_heads, dim, used, page_size, waves):
    op = made(heads, kv_heads, dim)
    inputs = given(op, used, page_size, slack=90)
    check(run(interpreter, op, inputs, settings={"WAVES": waves, "BLOCK_N": 32}), expected(op, inputs))


@pytest.mark.parametrize(("window", "waves"), [(40, 0), (300, 100), *exhaustive((8, 0), (40, 100), (1000, 100))])
@pytest.mark.parametrize("sinks", [False, True])
def test_kernel_with_a_window_and_sinks_in_the_interpreter(interpreter, window, waves, sinks):
    op = made(8, 2, 32, window)
    inputs = given(op, [70, 0, 1, 333], sinks=sinks, slack=90)
    check(run(interpreter, op, inputs, settings={"WAVES": waves, "BLOCK_N": 32}), expected(op, inputs))


@pytest.mark.parametrize(
    "mutation",
    [
        ("used - WINDOW, 0)", "used - WINDOW - 1, 0)"),
        ("used - WINDOW, 0)", "used - WINDOW + 1, 0)"),
        ("sink = tl.load(sinks_ptr + head, mask=lane < GROUP, other=0.0)", "sink = tl.load(sinks_ptr + lane)"),
        ("sink = tl.load(sinks_ptr + row % HEADS)", "sink = tl.load(sinks_ptr)"),
        ("sinks_ptr is not None and not PARTIAL", "sinks_ptr is not None"),
    ],
)
def test_a_wrong_window_or_sink_is_found(interpreter, mutation):
    op = made(4, 2, 16, 70)
    inputs = given(op, [75, 166, 1], sinks=True)
    for name in ("key_cache", "value_cache"):
        inputs[name].nan_to_num_(3.0)
    inputs["block_table"].clamp_(0, len(inputs["key_cache"]) - 1)
    settings = [{"WAVES": waves, "BLOCK_N": 32, "UNSPLIT_BLOCKS": 0} for waves in (0, 12)]
    want = expected(op, inputs).repeat(2, 1, 1)
    check(torch.cat([run(interpreter, op, inputs, settings=each) for each in settings]), want)
    got = torch.cat([run(interpreter, op, inputs, settings=each, replace=(mutation,)) for each in settings])
    with pytest.raises(AssertionError, match="not close"):
        check(got, want)


def test_kernel_in_half_precision_on_caches_interleaved_by_page(interpreter):
    op = made(4, 2, 32)
    inputs = given(op, [70, 100], dtype=torch.float16)
    both = torch.stack((inputs["key_cache"], inputs["value_cache"]), dim=1)
    inputs |= {"key_cache": both[:, 0], "value_cache": both[:, 1]}
    check(run(interpreter, op, inputs, settings={"WAVES": 12}), expected(op, inputs))


@pytest.mark.parametrize(
    "mutation",
    [
        ("pages + at // PAGE, mask", "pages + (at // PAGE + 1) % 5, mask"),
        ("last = tl.minimum(first + share, used)", "last = tl.minimum(first + share, used) - 1"),
        ("total = total * fade +", "total = total +"),
        ("weight = tl.exp2(lse - tl", "weight = 0 * lse + tl.exp2(0 * tl"),
        ("head = kv_head * GROUP + lane", "head = kv_head + lane * KV_HEADS"),
        ("s = tl.where(inside[None, :], s,", "s = tl.where(inside[None, :] | (at == used)[None, :], s,"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op = made(4, 2, 16)
    inputs = given(op, [75, 66])
    got = run(interpreter, op, inputs, replace=(mutation,), settings={"WAVES": 8, "BLOCK_N": 32})
    with pytest.raises(AssertionError, match="not close"):
        check(got, expected(op, inputs))


def test_splits_fill_the_processors_and_never_outnumber_the_blocks():
    assert split_count(1, 8, 8192, 132) == 66
    assert split_count(1, 8, 1024, 132) == 16
    assert split_count(32, 8, 1024, 132) == 2
    assert split_count(32, 8, 8192, 132) == 8
    assert split_count(128, 8, 8192, 132) == 1
    assert split_count(128, 8, 1 << 20, 132) == 1
    assert split_count(1, 1, 1 << 20, 132) == MAX_SPLITS
    assert split_count(1, 1, 0, 132) == 1
    assert split_count(1, 8, 8192, 132, 1024) == 16
    assert split_count(1, 8, 8192, 132, 128) == 1
    assert split_count(1, 8, 640, 132, 1024) == 10


def test_work_counts_what_is_used():
    op = made(4, 2, 16)
    inputs = given(op, [17, 0, 3], dtype=torch.bfloat16)
    work = op.work(inputs, (op(**inputs),))
    assert work.flops == 4 * 20 * 4 * 16
    assert work.bytes == 20 * 2 * 2 * 16 * 2 + 3 * 4 + 3 * 4 + 2 * (3 * 4 * 16 * 2)


def test_work_counts_the_window():
    op = made(4, 2, 16, 20)
    inputs = given(op, [17, 0, 50], dtype=torch.bfloat16, sinks=True)
    work = op.work(inputs, (op(**inputs),))
    assert work.flops == 4 * 37 * 4 * 16
    assert work.bytes == 37 * 2 * 2 * 16 * 2 + (2 + 3) * 4 + 3 * 4 + 4 * 2 + 2 * (3 * 4 * 16 * 2)


@pytest.mark.parametrize(
    ("partial", "scale", "window", "sinks"),
    [(False, "fp32", 0, False), (True, "fp64", 0, False), (False, "fp32", 128, True), (True, "fp64", 128, True)],
)
def test_kernels_compile_for_hopper_with_16_byte_copies(compile_for_hopper, partial, scale, window, sinks):
    names = flash_attn_decode_kernel.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), "*bf16")
    types |= dict.fromkeys(("table_ptr", "used_ptr"), "*i32") | dict.fromkeys(("part_ptr", "lse_ptr"), "*fp32")
    constants = {"KV_HEADS": 8, "GROUP": 4, "D": 128, "PAGE": 16, "PARTIAL": partial, "BLOCK_H": 16, "BLOCK_D": 128}
    constants |= {"WINDOW": window} | ({} if sinks else {"sinks_ptr": None})
    types["sinks_ptr"] = "*bf16"
    ptx = compile_for_hopper(flash_attn_decode_kernel, types | {"scale_log2e": scale}, constants | {"BLOCK_N": 64}).ptx
    assert "cp.async.cg.shared.global" in ptx
    assert "mma.sync" in ptx
    types = {"part_ptr": "*fp32", "lse_ptr": "*fp32", "sinks_ptr": "*bf16", "out_ptr": "*bf16", "splits": "i32"}
    constants = {"HEADS": 32, "BLOCK_S": 16, "D": 128, "BLOCK_D": 128} | ({} if sinks else {"sinks_ptr": None})
    assert compile_for_hopper(flash_attn_combine_kernel, types, constants).ptx


def on_gpu(op, inputs):
    want = expected(op, inputs)
    got = op(**inputs)
    check(got, want)
    assert torch.equal(got, op(**inputs)), "two runs differ"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(32, 8, 128), (8, 1, 128), (28, 4, 128), (64, 4, 128), (32, 8, 64), (6, 2, 96)]
)
@pytest.mark.parametrize("used", [[1024], [1, 16, 17, 0, 700], [100 + 13 * i for i in range(33)], [3000, 5]])
def test_cuda_agrees(heads, kv_heads, dim, used):
    op = made(heads, kv_heads, dim)
    on_gpu(op, given(op, used, 16, torch.bfloat16, "cuda", slack=20))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "window", "sinks"),
    [
        (64, 8, 64, 128, True), (64, 8, 64, None, True), (8, 1, 64, 128, True), (32, 16, 128, 1024, False),
        (16, 8, 256, 1024, False), (16, 8, 256, None, False), (4, 2, 128, 300, True),
    ],
)
@pytest.mark.parametrize("used", [[1024], [1, 16, 128, 0, 700, 129], [100 + 43 * i for i in range(33)], [8000, 5]])
def test_cuda_agrees_with_a_window_and_sinks(heads, kv_heads, dim, window, sinks, used):
    op = made(heads, kv_heads, dim, window)
    on_gpu(op, given(op, used, 16, torch.bfloat16, "cuda", slack=20, sinks=sinks))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "dim", "page_size"),
    [(torch.float16, 128, 32), (torch.float32, 128, 16), (torch.bfloat16, 256, 1)],
)
def test_cuda_agrees_in_other_dtypes_and_sizes(dtype, dim, page_size):
    op = made(8, 2, dim)
    on_gpu(op, given(op, [300, 1, 77], page_size, dtype, "cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize(("window", "sinks"), [(None, False), (128, True)])
def test_cuda_graph_replays_with_other_lengths(window, sinks):
    op = made(32, 8, 128, window)
    inputs = given(op, [700, 900], 16, torch.bfloat16, "cuda", slack=1000, sinks=sinks)
    for name in ("key_cache", "value_cache"):
        inputs[name].nan_to_num_(1.0)
    inputs["block_table"].clamp_(0, len(inputs["key_cache"]) - 1)
    op(**inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(**inputs)
    inputs["seqused_k"].copy_(torch.tensor([13, 800]))
    inputs["query"].normal_()
    out.fill_(float("nan"))
    graph.replay()
    check(out, expected(op, inputs))


@pytest.mark.gpu
@pytest.mark.parametrize("sequences", [2, 70])
@pytest.mark.parametrize(("window", "sinks"), [(None, False), (128, True), (190, True)])
def test_cuda_under_torch_compile(sequences, window, sinks):
    op = made(32, 8, 128, window)
    inputs = given(op, [200] * sequences, 16, torch.bfloat16, "cuda", sinks=sinks)
    assert torch.equal(torch.compile(op, fullgraph=True, dynamic=False)(**inputs), op(**inputs))
