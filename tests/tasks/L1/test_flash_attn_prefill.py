"""flash_attn_prefill against float64 SDPA, its portable kernel in the interpreter, both kernels compiled for Hopper."""

from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from suite import exhaustive

from fastkernels.tasks.baseline.L1 import flash_attn_prefill
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill, flash_attn_prefill_kernel

RAGGED = [5, 17, 1, 0, 33]


def made(heads, kv_heads, dim, window=None):
    return FlashAttnPrefill(heads, dim, dim**-0.5, kv_heads, window)


def given(op, q_lens, k_lens=None, dtype=torch.float32, device="cpu", slack=0, dim_v=None, sinks=False):
    k_lens, dim = q_lens if k_lens is None else k_lens, op.head_size
    shapes = {"query": (sum(q_lens), op.num_heads, dim), "key": (sum(k_lens), op.num_kv_heads, dim)}
    shapes["value"] = (sum(k_lens), op.num_kv_heads, dim_v or dim)
    inputs = {name: torch.randn(*shape, device=device).to(dtype) for name, shape in shapes.items()}
    if sinks:
        inputs["sinks"] = (2 * torch.randn(op.num_heads, device=device)).to(dtype)
    for name, lens in (("cu_seqlens_q", q_lens), ("cu_seqlens_k", k_lens)):
        inputs[name] = torch.tensor([0, *accumulate(lens)], dtype=torch.int32, device=device)
    return {**inputs, "max_seqlen_q": max(q_lens) + slack, "max_seqlen_k": max(k_lens) + slack}


def expected(op, inputs, offset=0):
    """Torch's SDPA in float64, a sequence at a time; `offset` moves the mask.

    A sink is one more key whose value is zero, with its logit in one more channel.
    """
    out = torch.zeros(*inputs["query"].shape[:2], inputs["value"].shape[2], dtype=torch.float64)
    out = out.to(inputs["query"].device)
    group = op.num_heads // op.num_kv_heads
    ends = [inputs[name].tolist() for name in ("cu_seqlens_q", "cu_seqlens_k")]
    for q0, q1, k0, k1 in zip(ends[0], ends[0][1:], ends[1], ends[1][1:], strict=False):
        if q1 == q0 or k1 == k0:
            continue
        q, k, v = (
            inputs[name][a:b].double().transpose(0, 1)
            for name, a, b in (("query", q0, q1), ("key", k0, k1), ("value", k0, k1))
        )
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        shift = (k1 - k0) - (q1 - q0) + offset
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool, device=q.device).tril(shift)
        if op.sliding_window is not None:
            mask = mask.triu(shift - op.sliding_window + 1)
        sees = mask.any(1)
        if "sinks" in inputs:
            q, v, mask = F.pad(q, (0, 1), value=1.0), F.pad(v, (0, 0, 1, 0)), F.pad(mask, (1, 0), value=True)
            k = F.pad(k, (0, 1, 1, 0))
            k[:, 0, -1] = inputs["sinks"].double() / op.scale
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=op.scale).transpose(0, 1)
        out[q0:q1] = torch.where(sees[:, None, None], y, 0.0)
    return out


def check(got, want):
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[got.dtype]
    torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 4, 16), (8, 2, 32), (7, 1, 24)])
@pytest.mark.parametrize(
    ("q_lens", "k_lens"), [([1], None), (RAGGED, None), ([4, 7], [20, 7]), ([9, 3], [4, 0]), ([0, 2], [3, 2])]
)
def test_native_agrees_with_sdpa(dtype, heads, kv_heads, dim, q_lens, k_lens):
    op = made(heads, kv_heads, dim)
    inputs = given(op, q_lens, k_lens, dtype, slack=3)
    got = op(**inputs)
    assert got.dtype == dtype
    check(got, expected(op, inputs))


def test_native_in_blocks_of_rows_gives_the_same(monkeypatch):
    op = made(4, 2, 16)
    inputs = given(op, [40, 3], [51, 3])
    whole = op(**inputs)
    monkeypatch.setattr(flash_attn_prefill, "SCORES", 4 * 51 * 7)
    torch.testing.assert_close(op(**inputs), whole)


@pytest.mark.parametrize("offset", [-1, 1, 1000])
def test_a_moved_or_dropped_mask_is_found(offset):
    op = made(4, 2, 16)
    inputs = given(op, [12, 5])
    with pytest.raises(AssertionError, match="not close"):
        check(op(**inputs), expected(op, inputs, offset))


def test_swapped_kv_heads_are_found():
    op = made(4, 2, 16)
    inputs = given(op, [12])
    with pytest.raises(AssertionError, match="not close"):
        check(op(**inputs), expected(op, {**inputs, "key": inputs["key"].flip(1)}))


@pytest.mark.parametrize("window", [1, 2, 7, 33, 100])
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize(("q_lens", "k_lens"), [(RAGGED, None), ([4, 7, 9], [20, 7, 4])])
def test_native_with_a_window_and_sinks(monkeypatch, window, sinks, q_lens, k_lens):
    op = made(8, 2, 32, window)
    inputs = given(op, q_lens, k_lens, dim_v=24, sinks=sinks)
    check(op(**inputs), expected(op, inputs))
    monkeypatch.setattr(flash_attn_prefill, "SCORES", 8 * 20 * 3)
    check(op(**inputs), expected(op, inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_native_with_sinks_in_other_dtypes(dtype):
    op = made(4, 2, 16, 9)
    inputs = given(op, [12, 30], dtype=dtype, sinks=True)
    check(op(**inputs), expected(op, inputs))


def test_a_window_one_off_and_lost_or_scaled_sinks_are_found():
    op = made(4, 2, 16, 8)
    inputs = given(op, [30, 5], sinks=True)
    want = expected(op, inputs)
    halved = {**inputs, "sinks": inputs["sinks"] / 2}
    lost = {name: value for name, value in inputs.items() if name != "sinks"}
    for other, changed in ((made(4, 2, 16, 7), inputs), (made(4, 2, 16, 9), inputs), (op, halved), (op, lost)):
        with pytest.raises(AssertionError, match="not close"):
            check(other(**changed), want)


def test_a_window_that_is_none_is_an_error():
    with pytest.raises(ValueError, match=r"sliding_window: -1 is not 1 or more \(None: every key\)"):
        made(4, 2, 16, -1)


@pytest.mark.parametrize("family", ["gpt_oss", "gemma3"])
def test_window_and_sinks_equal_hugging_face(family):
    """transformers' eager attention of the model, under transformers' mask of its sliding layers."""
    pytest.importorskip("transformers")
    from importlib import import_module

    from transformers.masking_utils import sliding_window_causal_mask_function

    modeling = import_module(f"transformers.models.{family}.modeling_{family}")
    op = made(8, 2, 64, 5)
    inputs = given(op, [23], sinks=family == "gpt_oss")
    module = torch.nn.Module().eval()
    module.num_key_value_groups, module.head_dim = 4, 64
    if family == "gpt_oss":
        module.sinks = inputs["sinks"]
    at = torch.arange(23)
    mask = torch.where(sliding_window_causal_mask_function(5)(at[:1], at[:1], at[:, None], at), 0.0, float("-inf"))
    q, k, v = (inputs[name].transpose(0, 1)[None] for name in ("query", "key", "value"))
    want, _ = modeling.eager_attention_forward(module, q, k, v, mask[None, None], scaling=op.scale)
    torch.testing.assert_close(op(**inputs), want[0], atol=1e-5, rtol=1e-5)


def run(interpreter, op, inputs, **kwargs):
    init = {"num_heads": op.num_heads, "head_size": op.head_size, "scale": op.scale, "num_kv_heads": op.num_kv_heads,
            "sliding_window": op.sliding_window}
    return interpreter(op, init, inputs, **kwargs)[0]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(2, 1, 64), (3, 3, 24), (12, 2, 16), *exhaustive((2, 2, 96), (4, 1, 128))]
)
@pytest.mark.parametrize(
    ("q_lens", "k_lens"), [([1, 65, 0], None), ([3, 70], [75, 200]), ([64], [128]), ([70, 2], [3, 0])]
)
def test_kernel_in_the_interpreter(interpreter, heads, kv_heads, dim, q_lens, k_lens):
    op = made(heads, kv_heads, dim)
    inputs = given(op, q_lens, k_lens, slack=1)
    check(run(interpreter, op, inputs), expected(op, inputs))


@pytest.mark.parametrize("window", [20, 64, *exhaustive(1, 100)])
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize(("q_lens", "k_lens"), [([1, 165, 0], None), ([3, 70], [75, 200]), ([70, 2], [3, 0])])
def test_kernel_with_a_window_and_sinks_in_the_interpreter(interpreter, window, sinks, q_lens, k_lens):
    op = made(2, 1, 32, window)
    inputs = given(op, q_lens, k_lens, slack=1, sinks=sinks)
    check(run(interpreter, op, inputs), expected(op, inputs))


@pytest.mark.parametrize(("dim", "dim_v"), [(192, 128), (24, 16), (16, 40)])
def test_kernel_with_other_value_heads_in_the_interpreter(interpreter, dim, dim_v):
    op = made(2, 2, dim)
    inputs = given(op, [70, 9], [70, 130], dim_v=dim_v)
    check(run(interpreter, op, inputs), expected(op, inputs))


def test_kernel_in_half_precision_on_slices_of_a_fused_projection(interpreter):
    op = made(4, 2, 32)
    inputs = given(op, [70, 9], dtype=torch.float16)
    qkv = torch.randn(79, 8, 32).half()
    inputs |= {"query": qkv[:, :4], "key": qkv[:, 4:6], "value": qkv[:, 6:]}
    check(run(interpreter, op, inputs), expected(op, inputs))


@pytest.mark.parametrize(
    "mutation",
    [
        ("column[None, :] <= row[:, None] + shift", "column[None, :] <= row[:, None] + shift + 1"),
        ("start in range(whole, seen, BLOCK_N)", "start in range(whole, seen - BLOCK_N, BLOCK_N)"),
        ("total = total * fade +", "total = total +"),
        ("pack * PACK // GROUP * v_head", "0 * v_head"),
        ("low_row + tl.arange(0, BLOCK_M) // PACK", "low_row + tl.arange(0, BLOCK_M)"),
        ("pack * PACK + tl.arange(0, BLOCK_M) % PACK", "pack * PACK"),
        ("low_row + BLOCK_M // PACK + shift", "low_row + shift"),
        ("shift = k_len - q_len", "shift = 0"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op = made(4, 2, 16)
    inputs = given(op, [70, 9], [140, 9])
    got = run(interpreter, op, inputs, replace=(mutation,))
    with pytest.raises(AssertionError, match="not close"):
        check(got, expected(op, inputs))


@pytest.mark.parametrize(
    "mutation",
    [
        ("row[:, None] + shift - WINDOW)", "row[:, None] + shift - WINDOW - 1)"),
        ("low_row + shift + 1 - WINDOW, 0)", "low_row + shift + 65 - WINDOW, 0)"),
        ("tl.load(sinks_ptr + head)", "tl.load(sinks_ptr)"),
        ("total += tl.exp2(sink - tl.where(top", "total += tl.exp2(sink - 0 * tl.where(top"),
    ],
)
def test_a_wrong_window_or_sink_is_found(interpreter, mutation):
    op = made(4, 2, 16, 40)
    inputs = given(op, [70, 9], [140, 9], sinks=True)
    check(run(interpreter, op, inputs), expected(op, inputs))
    got = run(interpreter, op, inputs, replace=(mutation,))
    with pytest.raises(AssertionError, match="not close"):
        check(got, expected(op, inputs))


def test_blocks_before_the_window_are_not_read(interpreter):
    op = made(4, 2, 16, 5)
    inputs = given(op, [64], [256])
    want = expected(op, inputs)
    inputs["key"][:128] = inputs["value"][:128] = float("nan")
    check(run(interpreter, op, inputs), want)
    check(op(**inputs), want)


class JoinSplits(torch.nn.Module):
    """Stands in the operator's file, beside the kernel, as JOIN has it."""


JOIN = """class JoinSplits(torch.nn.Module):
    def forward_cuda(self, part, lse, sinks, out, splits):
        join_splits(part, lse, sinks, out, splits)
        return out


class FlashAttnPrefill(Op):"""


def joined(interpreter, part, lse, sinks, mutation=None):
    rows, splits, heads, dim = part.shape
    inputs = {"part": part.flatten(1, 2), "lse": lse.flatten(1, 2), "sinks": sinks, "splits": splits}
    inputs["out"] = torch.full((rows, heads, dim), float("nan"))
    replace = (("class FlashAttnPrefill(Op):", JOIN), *([mutation] if mutation else []))
    return interpreter(JoinSplits(), {}, inputs, source=flash_attn_prefill.__file__, replace=replace)[0]


def splits_of(rows, splits, heads, dim):
    """Random splits, of which some see no key, and for the second row none does."""
    part, lse = torch.randn(rows, splits, heads, dim), 3 * torch.randn(rows, splits, heads)
    lse[0, -1] = lse[1] = float("-inf")
    part[lse == float("-inf")] = 0.0
    return part, lse


def sum_of_splits(part, lse, sinks):
    weights = torch.exp2(lse.double())
    extra = 0.0 if sinks is None else sinks.double().exp()
    total = weights.sum(1) + extra
    return (part.double() * weights[..., None]).sum(1) / torch.where(total > 0, total, 1.0)[..., None]


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize(("rows", "splits", "heads", "dim"), [(17, 2, 3, 32), (5, 8, 1, 24), (40, 4, 2, 128)])
def test_splits_are_joined_in_the_interpreter(interpreter, rows, splits, heads, dim, sinks):
    part, lse = splits_of(rows, splits, heads, dim)
    logits = torch.randn(heads) if sinks else None
    check(joined(interpreter, part, lse, logits), sum_of_splits(part, lse, logits))


@pytest.mark.parametrize(
    "mutation",
    [("at = first + split * HEADS", "at = first"), ("total += weight", "total += 1.0"),
     ("* LOG2_E - base)", "- base)"), ("tl.program_id(0) % HEADS", "0"),
     ("first = row.to(tl.int64) *", "first = 0 * row *")],
)  # fmt: skip
def test_wrongly_joined_splits_are_found(interpreter, mutation):
    part, lse = splits_of(17, 4, 3, 32)
    sinks = torch.randn(3)
    with pytest.raises(AssertionError, match="not close"):
        check(joined(interpreter, part, lse, sinks, mutation), sum_of_splits(part, lse, sinks))


@pytest.mark.parametrize(
    ("tiles", "blocks", "processors", "splits"),
    [(16, 12, 132, 4), (32, 12, 132, 4), (64, 24, 132, 2), (67, 24, 132, 1), (128, 24, 132, 1), (16, 5, 132, 1),
     (16, 6, 132, 2), (1, 100, 132, 8), (4, 40, 16, 4), (0, 0, 132, 1)],
)  # fmt: skip
def test_few_tiles_are_split(tiles, blocks, processors, splits):
    assert flash_attn_prefill.split_count(tiles, blocks, processors) == splits


def test_work_counts_the_causal_half():
    op = made(4, 2, 16)
    inputs = given(op, [3, 2, 4], [3, 10, 1], torch.bfloat16)
    pairs = (1 + 2 + 3) + (9 + 10) + 1
    out = op(**inputs)
    work = op.work(inputs, (out,))
    assert work.flops == 4 * 4 * 16 * pairs
    assert work.bytes == 2 * (2 * 9 * 4 + 2 * 14 * 2) * 16 + 2 * 4 * 4


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_work_counts_the_window(window):
    op = made(4, 2, 16, window)
    q_lens, k_lens = [3, 2, 4, 0], [3, 10, 1, 5]
    inputs = given(op, q_lens, k_lens, torch.bfloat16, dim_v=8, sinks=True)
    pairs, seen = 0, set()
    for sequence, (m, n) in enumerate(zip(q_lens, k_lens, strict=True)):
        keys = [(sequence, i, j) for i in range(m) for j in range(n) if i + n - m - window < j <= i + n - m]
        pairs += len(keys)
        seen |= {(sequence, j) for _, _, j in keys}
    work = op.work(inputs, (op(**inputs),))
    assert work.flops == 2 * 4 * (16 + 8) * pairs
    assert work.bytes == 2 * (9 * 4 * (16 + 8) + len(seen) * 2 * (16 + 8) + 4) + 2 * 4 * 5


def test_portable_kernel_compiles_for_hopper(compile_for_hopper):
    names = flash_attn_prefill_kernel.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), "*bf16")
    types |= dict.fromkeys(("cu_q_ptr", "cu_k_ptr"), "*i32") | {"scale_log2e": "fp32"}
    constants = {"HEADS": 32, "GROUP": 4, "D": 128, "BLOCK_D": 128, "BLOCK_M": 64, "BLOCK_N": 64}
    constants |= {"PACK": 4, "DV": 128, "BLOCK_DV": 128}
    plain = constants | {"WINDOW": 0, "sinks_ptr": None}
    assert "wgmma.mma_async" in compile_for_hopper(flash_attn_prefill_kernel, types, plain).ptx
    types["sinks_ptr"] = "*bf16"
    assert "wgmma.mma_async" in compile_for_hopper(flash_attn_prefill_kernel, types, constants | {"WINDOW": 128}).ptx


@pytest.mark.parametrize(
    ("dim", "dim_v", "window", "sinks", "splits"),
    [(64, 64, 128, True, 1), (192, 128, 0, False, 8),
     *exhaustive((128, 128, 0, False, 1), (128, 128, 1024, False, 1), (256, 256, 1024, True, 1),
                 (192, 128, 0, False, 1), (128, 128, 0, False, 4), (256, 256, 0, False, 2))],
)  # fmt: skip
def test_hopper_kernel_compiles(tmp_path, monkeypatch, dim, dim_v, window, sinks, splits):
    triton = pytest.importorskip("triton")
    if flash_attn_prefill.TensorDescriptor is None:
        pytest.skip("this Triton lacks Gluon")
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    layout = gl.NVMMASharedLayout(128, 16, 2)
    types = {"out_ptr": "*bf16", "out_row": "i32", "cu_q_ptr": "*i32", "cu_k_ptr": "*i32", "batch": "i32"}
    types |= {"out_ptr": "*fp32", "lse_ptr": "*fp32"} if splits > 1 else {}
    types |= {"level_bits": "i32", "scale_log2e": "fp32"}
    main, block_n = 1 << dim.bit_length() - 1, flash_attn_prefill.HOPPER_HEAD_SIZES[dim, dim_v]
    blocks = {"q_desc": (64, main), "k_desc": (block_n, main), "v_desc": (block_n, dim_v)}
    if rest := dim - main:
        blocks |= {"q_rest_desc": (64, rest), "k_rest_desc": (block_n, rest)}
    types |= {name: f"tensordesc<bf16[{r}, {c}],{layout!r}>" for name, (r, c) in blocks.items()}
    types |= {"sinks_ptr": "*bf16"} if sinks else {}
    constants = {"HEADS": 32, "GROUP": 4, "D": main, "REST": rest, "DV": dim_v, "BLOCK_B": 32, "BLOCK_N": block_n,
                 "Q_HEAD": dim, "K_HEAD": dim, "V_HEAD": dim_v, "SPLITS": splits, "WINDOW": window}
    optional = ("q_rest_desc", "k_rest_desc", "sinks_ptr", "lse_ptr")
    constants |= {name: None for name in optional if name not in types}
    kernel = flash_attn_prefill.flash_attn_hopper_kernel
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    aligned = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in ("out_ptr", "out_row")}
    source = GluonASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    ptx = compiled.asm["ptx"]
    assert ptx.count("wgmma.mma_async") >= 2 * 2 * (dim // 16 + block_n // 16)
    assert "cp.async.bulk.tensor" in ptx
    assert "setmaxnreg" in ptx
    assert compiled.metadata.shared <= 227 * 1024


class Recorder:
    """Takes a kernel's place and keeps its last launch."""

    def __init__(self, kernel):
        self.names = kernel.arg_names

    def __getitem__(self, grid):
        self.grid = grid
        return self.launch

    def launch(self, *args, num_warps, **kwargs):
        assert sorted([*self.names[: len(args)], *kwargs]) == sorted(self.names)
        self.given = dict(zip(self.names, args, strict=False)) | kwargs


@pytest.mark.parametrize(
    ("q_lens", "slack", "programs", "level_bits", "block_b"),
    [([300], 0, 24, 2, 1), ([256] * 8, 0, 132, 2, 32), ([130] * 33, 1023, 132, 4, 64)],
)
def test_hopper_launch(monkeypatch, q_lens, slack, programs, level_bits, block_b):
    op = made(8, 2, 128)
    inputs = given(op, q_lens, None, torch.bfloat16, slack=slack)
    recorder = Recorder(flash_attn_prefill.flash_attn_hopper_kernel)
    monkeypatch.setattr(flash_attn_prefill, "flash_attn_hopper_kernel", recorder)
    monkeypatch.setattr(flash_attn_prefill, "hopper_processors", lambda device: 132)
    out = op.forward_cuda(**inputs)
    seen = recorder.given
    assert recorder.grid == (programs,)
    assert (seen["level_bits"], seen["BLOCK_B"], seen["batch"]) == (level_bits, block_b, len(q_lens))
    assert (seen["HEADS"], seen["GROUP"], seen["D"], seen["out_row"]) == (8, 4, 128, 8 * 128)
    assert seen["out_ptr"] is out
    maps = [seen[name] for name in ("q_desc", "k_desc", "v_desc")]
    assert [m.block_shape for m in maps] == [[64, 128], [128, 128], [128, 128]]
    assert [m.shape for m in maps] == [[sum(q_lens), 8 * 128], [sum(q_lens), 2 * 128], [sum(q_lens), 2 * 128]]


@pytest.mark.parametrize(
    ("dim", "q_lens", "k_lens", "portable"),
    [(128, [64] * 8, None, True), (128, [128] * 8, None, True), (128, [129] * 8, None, False),
     (128, [1] * 8, [200] * 8, False), (256, [64] * 8, None, False), (128, [512, 1, 1, 1, 1], None, True),
     (128, [513, 1, 1, 1, 1], None, False)],
)  # fmt: skip
def test_short_prompts_take_the_portable_kernel_on_hopper(monkeypatch, dim, q_lens, k_lens, portable):
    op = made(8, 2, dim)
    called = []
    monkeypatch.setattr(flash_attn_prefill, "hopper_processors", lambda device: 132)
    for name in ("launch_hopper", "launch_blocks"):
        monkeypatch.setattr(flash_attn_prefill, name, lambda *args, name=name: called.append(name))
    op.forward_cuda(**given(op, q_lens, k_lens, torch.bfloat16))
    assert called == ["launch_blocks" if portable else "launch_hopper"]


@pytest.mark.parametrize("sinks", [False, True])
def test_few_tiles_with_many_keys_are_split_and_joined(monkeypatch, sinks):
    op = made(4, 1, 128)
    inputs = given(op, [500], [1536], torch.bfloat16, sinks=sinks)
    attend, join = (Recorder(getattr(flash_attn_prefill, name)) for name in
                    ("flash_attn_hopper_kernel", "join_splits_kernel"))  # fmt: skip
    monkeypatch.setattr(flash_attn_prefill, "flash_attn_hopper_kernel", attend)
    monkeypatch.setattr(flash_attn_prefill, "join_splits_kernel", join)
    monkeypatch.setattr(flash_attn_prefill, "hopper_processors", lambda device: 132)
    out = op.forward_cuda(**inputs)
    seen, joined = attend.given, join.given
    assert (attend.grid, seen["SPLITS"], seen["out_row"]) == ((4 * 4 * 4,), 4, 4 * 4 * 128)
    assert (seen["out_ptr"].shape, seen["lse_ptr"].shape) == ((500, 16, 128), (500, 16))
    assert seen["out_ptr"].dtype == seen["lse_ptr"].dtype == torch.float32
    assert (join.grid, joined["rows"], joined["SPLITS"]) == ((4 * 32,), 500, 4)
    assert (joined["part_ptr"] is seen["out_ptr"], joined["lse_ptr"] is seen["lse_ptr"]) == (True, True)
    assert (joined["out_ptr"] is out, joined["sinks_ptr"] is inputs.get("sinks")) == (True, True)


def test_a_window_is_not_split(monkeypatch):
    op = made(4, 1, 128, 1024)
    recorder = Recorder(flash_attn_prefill.flash_attn_hopper_kernel)
    monkeypatch.setattr(flash_attn_prefill, "flash_attn_hopper_kernel", recorder)
    monkeypatch.setattr(flash_attn_prefill, "hopper_processors", lambda device: 132)
    op.forward_cuda(**given(op, [500], [1536], torch.bfloat16))
    assert (recorder.given["SPLITS"], recorder.given["lse_ptr"]) == (1, None)


def test_hopper_launch_of_latent_attention(monkeypatch):
    """Keys of 192 in two parts, values that lie in one tensor with the unrotated part of the keys."""
    op = made(8, 8, 192)
    inputs = given(op, [300], None, torch.bfloat16, dim_v=128)
    inputs["value"] = torch.randn(300, 8, 256).bfloat16()[..., 128:]
    recorder = Recorder(flash_attn_prefill.flash_attn_hopper_kernel)
    monkeypatch.setattr(flash_attn_prefill, "flash_attn_hopper_kernel", recorder)
    monkeypatch.setattr(flash_attn_prefill, "hopper_processors", lambda device: 132)
    out = op.forward_cuda(**inputs)
    seen = recorder.given
    assert (out.shape, seen["out_row"]) == ((300, 8, 128), 8 * 128)
    assert [seen[name] for name in ("D", "REST", "DV", "Q_HEAD", "K_HEAD", "V_HEAD")] == [128, 64, 128, 192, 192, 256]
    assert (seen["WINDOW"], seen["sinks_ptr"], seen["BLOCK_N"]) == (0, None, 128)
    maps = [seen[name] for name in ("q_desc", "k_desc", "v_desc", "q_rest_desc", "k_rest_desc")]
    assert [m.block_shape for m in maps] == [[64, 128], [128, 128], [128, 128], [64, 64], [128, 64]]
    assert [m.shape for m in maps] == [[300, 1536], [300, 1536], [300, 7 * 256 + 128], [300, 1536], [300, 1536]]


@pytest.mark.parametrize(("max_seqlen", "seen"), [(256, 0), (257, 256)])
def test_a_window_that_hides_nothing_is_none(monkeypatch, max_seqlen, seen):
    op = made(8, 2, 64, 256)
    inputs = given(op, [max_seqlen], None, torch.bfloat16, sinks=True)
    recorder = Recorder(flash_attn_prefill.flash_attn_hopper_kernel)
    monkeypatch.setattr(flash_attn_prefill, "flash_attn_hopper_kernel", recorder)
    monkeypatch.setattr(flash_attn_prefill, "hopper_processors", lambda device: 132)
    op.forward_cuda(**inputs)
    assert recorder.given["WINDOW"] == seen
    assert recorder.given["sinks_ptr"] is inputs["sinks"]


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_hopper_launch_leaves_what_the_copy_engine_cannot_read(monkeypatch, name):
    op = made(4, 2, 64)
    inputs = given(op, [9], None, torch.bfloat16)
    assert flash_attn_prefill.copies_by_tensor_map(inputs["query"], inputs["key"], inputs["value"])
    x = inputs[name]
    apart = x.transpose(0, 1).contiguous().transpose(0, 1)
    off = torch.cat((x.new_zeros(1), x.flatten()))[1:].view_as(x)
    for wrong in (apart, off, x.float(), x[:0]):
        assert not flash_attn_prefill.copies_by_tensor_map(inputs["query"], wrong)


def test_operator_for_torch_compile(monkeypatch):
    op = made(4, 2, 16)
    inputs = given(op, [12, 5])
    want = op(**inputs)

    def native(query, key, value, out, cu_seqlens_q, cu_seqlens_k, lengths, scale, *rest):
        assert rest == (None, 0, 0.0)
        out.copy_(op.forward_native(query, key, value, cu_seqlens_q, cu_seqlens_k, *lengths))

    monkeypatch.setattr(flash_attn_prefill, "launch_blocks", native)
    compiled = torch.compile(op.forward_cuda, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs), want)


def on_gpu(op, inputs):
    want = expected(op, inputs)
    kept = {name: value.clone() for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    got = op(**inputs)
    for name, value in kept.items():
        assert torch.equal(inputs[name], value), f"{name} changed"
    error = ((got.double() - want).norm() / want.norm()).item()
    allowed = {torch.bfloat16: 4e-3, torch.float16: 6e-4, torch.float32: 1e-5}[got.dtype]
    assert error < allowed, f"relative error {error}"
    check(got, want)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(32, 8, 128), (8, 1, 128), (28, 4, 128), (32, 8, 64), (24, 8, 128), (4, 2, 96)]
)
@pytest.mark.parametrize(
    ("q_lens", "k_lens", "slack"),
    [
        ([512], None, 0), ([1000], None, 7192), ([512] * 8, None, 0), ([300, 1, 77, 640, 0, 129], None, 100),
        ([128, 5, 64], [900, 5, 1088], 0), ([100, 200, 5, 30], [1000, 333, 4, 0], 0), ([1] * 40, [77] * 40, 0),
        ([1] * 40, [300] * 40, 0), ([64, 1, 90, 0, 33, 128], None, 40),
    ],
)  # fmt: skip
def test_cuda_agrees(heads, kv_heads, dim, q_lens, k_lens, slack):
    op = made(heads, kv_heads, dim)
    on_gpu(op, given(op, q_lens, k_lens, torch.bfloat16, "cuda", slack))


LENGTHS = [
    ([512], None, 0), ([1000], None, 7192), ([300, 1, 77, 640, 0, 129], None, 100), ([128, 5, 64], [900, 5, 1088], 0),
    ([100, 200, 5, 30], [1000, 333, 4, 0], 0), ([3000], [5000], 0),
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("splits", [2, 4, 8])
@pytest.mark.parametrize(
    ("heads", "dim", "dim_v", "sinks"),
    [(4, 128, 128, False), (3, 64, 64, True), (2, 192, 128, False), (2, 256, 256, True)],
)
@pytest.mark.parametrize(
    ("q_lens", "k_lens"),
    [([512], [1536]), ([2048], [3072]), ([1000], None), ([300, 1, 77, 640, 0, 129], [900, 1, 277, 640, 5, 3000]),
     ([100, 200, 5, 30], [1000, 333, 4, 0])],
)  # fmt: skip
def test_cuda_agrees_with_split_keys(monkeypatch, splits, heads, dim, dim_v, sinks, q_lens, k_lens):
    op = made(heads, 1, dim)
    monkeypatch.setattr(flash_attn_prefill, "has_short_prompts", lambda *args: False)
    monkeypatch.setattr(flash_attn_prefill, "split_count", lambda *args: splits)
    on_gpu(op, given(op, q_lens, k_lens, torch.bfloat16, "cuda", dim_v=dim_v, sinks=sinks))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "window", "sinks"),
    [
        (64, 8, 64, 128, True), (64, 8, 64, None, True), (8, 1, 64, 1, True), (8, 2, 64, 100, False),
        (32, 16, 128, 1024, False), (8, 2, 128, 256, True), (8, 2, 128, 257, True), (8, 2, 128, 700, True),
        (16, 8, 256, 1024, False), (16, 8, 256, None, False), (8, 4, 256, 200, True), (4, 2, 96, 100, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("q_lens", "k_lens", "slack"), LENGTHS)
def test_cuda_agrees_with_a_window_and_sinks(heads, kv_heads, dim, window, sinks, q_lens, k_lens, slack):
    op = made(heads, kv_heads, dim, window)
    on_gpu(op, given(op, q_lens, k_lens, torch.bfloat16, "cuda", slack, sinks=sinks))


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads", "dim", "dim_v"), [(16, 16, 192, 128), (3, 1, 192, 128), (4, 2, 80, 48)])
@pytest.mark.parametrize(("q_lens", "k_lens", "slack"), LENGTHS)
def test_cuda_agrees_with_other_value_heads(heads, kv_heads, dim, dim_v, q_lens, k_lens, slack):
    op = made(heads, kv_heads, dim)
    inputs = given(op, q_lens, k_lens, torch.bfloat16, "cuda", slack, dim_v=dim_v)
    on_gpu(op, inputs)
    both = torch.randn(len(inputs["value"]), kv_heads, 128 + dim_v, device="cuda").bfloat16()
    on_gpu(op, inputs | {"value": both[..., 128:]})


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "dim"), [(torch.float16, 128), (torch.float32, 128), (torch.bfloat16, 256)])
def test_cuda_agrees_in_other_dtypes_and_sizes(dtype, dim):
    op = made(8, 2, dim)
    on_gpu(op, given(op, [300, 1, 77], [300, 200, 77], dtype, "cuda"))


@pytest.mark.gpu
def test_cuda_agrees_on_many_sequences_and_at_the_longest_length():
    op = made(8, 2, 128)
    for most in (190, 390):  # the portable kernel, the other
        on_gpu(op, given(op, [1 + (7 * i) % most for i in range(700)], None, torch.bfloat16, "cuda"))
    op = made(4, 1, 128)
    on_gpu(op, given(op, [8192], None, torch.bfloat16, "cuda"))


@pytest.mark.gpu
def test_cuda_reads_slices_of_a_fused_projection_and_heads_apart():
    op = made(32, 8, 128)
    inputs = given(op, [300, 129], None, torch.bfloat16, "cuda")
    qkv = torch.randn(429, 48, 128, device="cuda", dtype=torch.bfloat16)
    on_gpu(op, inputs | {"query": qkv[:, :32], "key": qkv[:, 32:40], "value": qkv[:, 40:]})
    apart = {name: inputs[name].transpose(0, 1).contiguous().transpose(0, 1) for name in ("query", "key", "value")}
    on_gpu(op, inputs | apart)


@pytest.mark.gpu
@pytest.mark.parametrize(("dim", "window", "sinks"), [(128, None, False), (64, 128, True)])
def test_cuda_graph_replays_with_other_lengths_and_repeats_bit_for_bit(dim, window, sinks):
    op = made(32, 8, dim, window)
    inputs = given(op, [300, 129, 600, 1], None, torch.bfloat16, "cuda", slack=1000, sinks=sinks)
    first = op(**inputs)
    assert torch.equal(first, op(**inputs))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(**inputs)
    inputs["cu_seqlens_q"].copy_(torch.tensor([0, 1000, 1001, 1001, 1030]))
    inputs["cu_seqlens_k"].copy_(inputs["cu_seqlens_q"])
    inputs["query"].normal_()
    out.fill_(float("nan"))
    graph.replay()
    check(out, expected(op, inputs))


@pytest.mark.gpu
@pytest.mark.parametrize(("dim", "window", "sinks"), [(128, None, False), (64, 128, True)])
def test_cuda_under_torch_compile(dim, window, sinks):
    op = made(32, 8, dim, window)
    inputs = given(op, [300, 129], None, torch.bfloat16, "cuda", sinks=sinks)
    assert torch.equal(torch.compile(op, fullgraph=True, dynamic=False)(**inputs), op(**inputs))
