"""flash_attn_prefill against float64 SDPA, its portable kernel in the interpreter, both kernels compiled for Hopper."""

from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F

from fastkernels.tasks.baseline.L1 import flash_attn_prefill
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill, flash_attn_prefill_kernel

RAGGED = [5, 17, 1, 0, 33]


def made(heads, kv_heads, dim):
    return FlashAttnPrefill(heads, dim, dim**-0.5, kv_heads)


def given(op, q_lens, k_lens=None, dtype=torch.float32, device="cpu", slack=0):
    k_lens = q_lens if k_lens is None else k_lens
    shapes = {"query": (sum(q_lens), op.num_heads), "key": (sum(k_lens), op.num_kv_heads)}
    shapes["value"] = shapes["key"]
    inputs = {name: torch.randn(*shape, op.head_size, device=device).to(dtype) for name, shape in shapes.items()}
    for name, lens in (("cu_seqlens_q", q_lens), ("cu_seqlens_k", k_lens)):
        inputs[name] = torch.tensor([0, *accumulate(lens)], dtype=torch.int32, device=device)
    return {**inputs, "max_seqlen_q": max(q_lens) + slack, "max_seqlen_k": max(k_lens) + slack}


def expected(op, inputs, offset=0):
    """Torch's SDPA in float64, a sequence at a time; `offset` moves the mask."""
    out = torch.zeros_like(inputs["query"], dtype=torch.float64)
    ends = [inputs[name].tolist() for name in ("cu_seqlens_q", "cu_seqlens_k")]
    for q0, q1, k0, k1 in zip(ends[0], ends[0][1:], ends[1], ends[1][1:], strict=False):
        if q1 == q0 or k1 == k0:
            continue
        q, k, v = (
            inputs[name][a:b].double().transpose(0, 1)
            for name, a, b in (("query", q0, q1), ("key", k0, k1), ("value", k0, k1))
        )
        shift = (k1 - k0) - (q1 - q0) + offset
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool, device=q.device).tril(shift)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=op.scale, enable_gqa=True).transpose(0, 1)
        out[q0:q1] = torch.where(mask.any(1)[:, None, None], y, 0.0)
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


def run(interpreter, op, inputs, **kwargs):
    init = {"num_heads": op.num_heads, "head_size": op.head_size, "scale": op.scale, "num_kv_heads": op.num_kv_heads}
    return interpreter(op, init, inputs, **kwargs)[0]


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(2, 1, 64), (3, 3, 24), (2, 2, 96), (4, 1, 128)])
@pytest.mark.parametrize(
    ("q_lens", "k_lens"), [([1, 65, 0], None), ([3, 70], [75, 200]), ([64], [128]), ([70, 2], [3, 0])]
)
def test_kernel_in_the_interpreter(interpreter, heads, kv_heads, dim, q_lens, k_lens):
    op = made(heads, kv_heads, dim)
    inputs = given(op, q_lens, k_lens, slack=1)
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
        ("head // GROUP * v_head", "head % 2 * v_head"),
        ("shift = k_len - q_len", "shift = 0"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op = made(4, 2, 16)
    inputs = given(op, [70, 9], [140, 9])
    got = run(interpreter, op, inputs, replace=(mutation,))
    with pytest.raises(AssertionError, match="not close"):
        check(got, expected(op, inputs))


def test_work_counts_the_causal_half():
    op = made(4, 2, 16)
    inputs = given(op, [3, 2, 4], [3, 10, 1], torch.bfloat16)
    pairs = (1 + 2 + 3) + (9 + 10) + 1
    out = op(**inputs)
    work = op.work(inputs, (out,))
    assert work.flops == 4 * 4 * 16 * pairs
    assert work.bytes == 2 * (2 * 9 * 4 + 2 * 14 * 2) * 16 + 2 * 4 * 4


def test_portable_kernel_compiles_for_hopper(compile_for_hopper):
    names = flash_attn_prefill_kernel.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), "*bf16")
    types |= dict.fromkeys(("cu_q_ptr", "cu_k_ptr"), "*i32") | {"scale_log2e": "fp32"}
    constants = {"HEADS": 32, "GROUP": 4, "D": 128, "BLOCK_D": 128, "BLOCK_M": 64, "BLOCK_N": 64}
    assert "wgmma.mma_async" in compile_for_hopper(flash_attn_prefill_kernel, types, constants).ptx


def test_hopper_kernel_compiles(tmp_path, monkeypatch):
    triton = pytest.importorskip("triton")
    if flash_attn_prefill.TensorDescriptor is None:
        pytest.skip("this Triton lacks Gluon")
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    layout = gl.NVMMASharedLayout(128, 16, 2)
    types = {"out_ptr": "*bf16", "out_row": "i32", "cu_q_ptr": "*i32", "cu_k_ptr": "*i32", "batch": "i32"}
    types |= {"level_bits": "i32", "scale_log2e": "fp32"}
    blocks = {"q_desc": 64, "k_desc": 128, "v_desc": 128}
    types |= {name: f"tensordesc<bf16[{rows}, 128],{layout!r}>" for name, rows in blocks.items()}
    constants = {"HEADS": 32, "GROUP": 4, "D": 128, "BLOCK_B": 32}
    kernel = flash_attn_prefill.flash_attn_hopper_kernel
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    aligned = {(3,): [["tt.divisibility", 16]], (4,): [["tt.divisibility", 16]]}
    source = GluonASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    ptx = compiled.asm["ptx"]
    assert ptx.count("wgmma.mma_async") >= 2 * 16
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
    [([300], 0, 24, 2, 1), ([128] * 8, 0, 64 + 64, 1, 32), ([1] * 33, 1023, 132, 4, 64)],
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

    def native(query, key, value, out, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, scale):
        out.copy_(op.forward_native(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_q))

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
    ],
)  # fmt: skip
def test_cuda_agrees(heads, kv_heads, dim, q_lens, k_lens, slack):
    op = made(heads, kv_heads, dim)
    on_gpu(op, given(op, q_lens, k_lens, torch.bfloat16, "cuda", slack))


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "dim"), [(torch.float16, 128), (torch.float32, 128), (torch.bfloat16, 256)])
def test_cuda_agrees_in_other_dtypes_and_sizes(dtype, dim):
    op = made(8, 2, dim)
    on_gpu(op, given(op, [300, 1, 77], [300, 200, 77], dtype, "cuda"))


@pytest.mark.gpu
def test_cuda_agrees_on_many_sequences_and_at_the_longest_length():
    op = made(8, 2, 128)
    on_gpu(op, given(op, [1 + (7 * i) % 190 for i in range(700)], None, torch.bfloat16, "cuda"))
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
def test_cuda_graph_replays_with_other_lengths_and_repeats_bit_for_bit():
    op = made(32, 8, 128)
    inputs = given(op, [300, 129, 600, 1], None, torch.bfloat16, "cuda", slack=1000)
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
def test_cuda_under_torch_compile():
    op = made(32, 8, 128)
    inputs = given(op, [300, 129], None, torch.bfloat16, "cuda")
    assert torch.equal(torch.compile(op, fullgraph=True)(**inputs), op(**inputs))
