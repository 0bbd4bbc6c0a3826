"""mla_decode against float64 and DeepSeek's attention, its kernels in the interpreter and compiled for Hopper."""

import pytest
import torch
import torch.nn.functional as F
from suite import exhaustive

from fastkernels.tasks.baseline.L1 import mla_decode
from fastkernels.tasks.baseline.L1.mla_decode import MLADecode, mla_combine_kernel, mla_decode_kernel, split_count


def made(heads, rank=32, rope=16):
    return MLADecode(heads, rank, rope, (rank + rope) ** -0.5)


def given(op, used, page_size=16, dtype=torch.float32, device="cpu", slack=0):
    """Pages in random order; what no sequence uses holds NaN, table entries past the last page point nowhere."""
    per_sequence = -(-max(used) // page_size) + slack
    pages, width = len(used) * per_sequence + 3, op.kv_lora_rank + op.qk_rope_head_dim
    table = torch.randperm(pages)[: len(used) * per_sequence].view(len(used), per_sequence).int()
    cache = torch.full((pages, page_size, width), float("nan"))
    for row, count in zip(table.tolist(), used, strict=True):
        for at in range(0, count, page_size):
            length = min(page_size, count - at)
            cache[row[at // page_size], :length] = torch.randn(length, width)
    for row, count in zip(table, used, strict=True):
        row[-(-count // page_size) :] = 2**30
    return {
        "query": torch.randn(len(used), op.num_heads, width, device=device).to(dtype),
        "kv_cache": cache.to(device=device, dtype=dtype), "block_table": table.to(device),
        "seqused_k": torch.tensor(used, dtype=torch.int32, device=device), "max_seqlen_k": max(used) + slack,
    }  # fmt: skip


def expected(op, inputs):
    """Torch's SDPA in float64, a sequence at a time, the one key and value given to every head."""
    rank, page_size = op.kv_lora_rank, inputs["kv_cache"].shape[1]
    out = torch.zeros(*inputs["query"].shape[:2], rank, dtype=torch.float64, device=inputs["query"].device)
    for seq, used in enumerate(inputs["seqused_k"].tolist()):
        if used:
            pages = inputs["block_table"][seq, : -(-used // page_size)].long()
            k = inputs["kv_cache"][pages].flatten(0, 1)[:used].double().expand(op.num_heads, -1, -1)
            q = inputs["query"][seq].double().unsqueeze(1)
            out[seq] = F.scaled_dot_product_attention(q, k, k[..., :rank], scale=op.scale).squeeze(1)
    return out


def check(got, want):
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[got.dtype]
    torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "rank", "rope"), [(4, 32, 16), (7, 24, 8), (1, 40, 4)])
@pytest.mark.parametrize(("used", "page_size"), [([1], 16), ([16, 0, 37, 1], 16), ([9, 30], 4)])
def test_native_agrees_with_sdpa(dtype, heads, rank, rope, used, page_size):
    op = made(heads, rank, rope)
    inputs = given(op, used, page_size, dtype, slack=2)
    got = op(**inputs)
    assert got.dtype == dtype
    check(got, expected(op, inputs))


def test_absorbed_weights_give_deepseeks_attention_of_hugging_face():
    """softmax(q_nope k_nope + q_pe k_pe) v with k_nope = W_UK c and v = W_UV c, the last row of 37 tokens."""
    pytest.importorskip("transformers")
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import eager_attention_forward

    heads, rank, rope, nope, value, tokens = 4, 32, 16, 24, 20, 37
    op = MLADecode(heads, rank, rope, (nope + rope) ** -0.5)
    inputs = given(op, [tokens])
    latent = inputs["kv_cache"][inputs["block_table"][0].long()].flatten(0, 1)[:tokens]
    w_uk, w_uv = torch.randn(heads, nope, rank) / rank**0.5, torch.randn(heads, value, rank)
    q_nope, q_pe = torch.randn(heads, nope), torch.randn(heads, rope)
    inputs["query"] = torch.cat((torch.einsum("hn,hnr->hr", q_nope, w_uk), q_pe), dim=-1)[None]
    got = torch.einsum("hr,hvr->hv", op(**inputs)[0], w_uv)
    module = torch.nn.Module().eval()
    module.num_key_value_groups = 1
    k_nope = torch.einsum("tr,hnr->htn", latent[:, :rank], w_uk)
    keys = torch.cat((k_nope, latent[:, rank:].expand(heads, -1, -1)), dim=-1)
    values = torch.einsum("tr,hvr->htv", latent[:, :rank], w_uv)
    query = torch.cat((q_nope, q_pe), dim=-1)[None, :, None]
    want, _ = eager_attention_forward(module, query, keys[None], values[None], None, scaling=op.scale)
    torch.testing.assert_close(got, want[0, 0], atol=2e-5, rtol=2e-5)


def test_a_token_less_a_wrong_scale_and_values_of_the_rotated_part_are_found():
    op = made(4)
    inputs = given(op, [48, 33])
    want = expected(op, inputs)
    check(op(**inputs), want)
    fewer = op(**{**inputs, "seqused_k": inputs["seqused_k"] - 1})
    scaled = MLADecode(4, 32, 16, op.scale * 1.05)(**inputs)
    shifted = op(**{**inputs, "kv_cache": inputs["kv_cache"].roll(1, 2)})
    for wrong in (fewer, scaled, shifted):
        with pytest.raises(AssertionError, match="not close"):
            check(wrong, want)


def run(interpreter, op, inputs, **kwargs):
    init = {"num_heads": op.num_heads, "kv_lora_rank": op.kv_lora_rank, "qk_rope_head_dim": op.qk_rope_head_dim,
            "scale": op.scale}  # fmt: skip
    kwargs["settings"] = {"MAX_SPLITS": 1} | kwargs.get("settings", {})
    return interpreter(op, init, inputs, **kwargs)[0]


SPLIT = {"MAX_SPLITS": 3, "JOIN_BLOCKS": -1000}  # the interpreter has one processor: joining pays


@pytest.mark.parametrize(("heads", "rank", "rope"), [(16, 64, 16), (7, 24, 8), *exhaustive((33, 40, 4), (72, 32, 32))])
@pytest.mark.parametrize(
    ("used", "page_size", "settings"), [([70, 0, 1], 16, {}), ([70, 0, 1, 200, 64], 16, SPLIT), ([33], 4, {})]
)
def test_kernel_in_the_interpreter(interpreter, heads, rank, rope, used, page_size, settings):
    op = made(heads, rank, rope)
    inputs = given(op, used, page_size, slack=90)
    check(run(interpreter, op, inputs, settings=settings), expected(op, inputs))


def test_kernel_in_half_precision_on_slices(interpreter):
    op = made(20)
    inputs = given(op, [70, 100], dtype=torch.float16)
    wide = torch.zeros(len(inputs["kv_cache"]), 20, 60).half()
    wide[:, :16, 12:] = inputs["kv_cache"]
    inputs["kv_cache"] = wide[:, :16, 12:]
    inputs["query"] = torch.randn(20, 2, 48).half().transpose(0, 1)
    check(run(interpreter, op, inputs, settings=SPLIT), expected(op, inputs))


@pytest.fixture(scope="module")
def right(interpreter):
    """An operator with inputs and settings whose kernel passes, where the wrong ones fail."""
    op = made(20)
    inputs = given(op, [275, 66])
    settings = [SPLIT | {"COLUMNS": 16}, {}]
    want = expected(op, inputs).repeat(2, 1, 1)
    check(torch.cat([run(interpreter, op, inputs, settings=each) for each in settings]), want)
    return op, inputs, settings, want


@pytest.mark.parametrize(
    "mutation",
    [
        ("pages + at // PAGE, mask", "pages + (at // PAGE + 1) % 5, mask"),
        ("last = tl.minimum(first + share, used)", "last = tl.minimum(first + share, used) - 1"),
        ("total = total * fade +", "total = total +"),
        ("weight = tl.exp2(lse - tl", "weight = 0 * lse + tl.exp2(0 * tl"),
        ("row + RANK + rope[None, :]", "row + RANK - 1 + rope[None, :]"),
        ("s = tl.dot(q_rope, tl.trans(rotated), s,", "s = s + 0 * tl.dot(q_rope, tl.trans(rotated), s,"),
        ("% tiles * BLOCK_H + tl.arange(0, BLOCK_H)", "% tiles * (BLOCK_H + 1) + tl.arange(0, BLOCK_H)"),
        ("tl.program_id(1) * COLUMNS", "tl.program_id(1) * (COLUMNS - 1)"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, right, mutation):
    op, inputs, settings, want = right
    got = torch.cat([run(interpreter, op, inputs, settings=each, replace=(mutation,)) for each in settings])
    with pytest.raises(AssertionError, match="not close"):
        check(got, want)


def test_splits_fill_the_processors_and_never_outnumber_the_blocks():
    assert split_count(1, 2, 8192, 132) == 64
    assert split_count(1, 2, 1024, 132) == 16
    assert split_count(32, 2, 8192, 132) == 2
    assert split_count(66, 2, 8192, 132) == 1
    assert split_count(128, 2, 1024, 132) == 1
    assert split_count(1, 1, 1 << 20, 132) == mla_decode.MAX_SPLITS
    assert split_count(0, 2, 0, 132) == 1


def test_work_counts_what_is_used():
    op = made(4)
    inputs = given(op, [17, 0, 3], dtype=torch.bfloat16)
    work = op.work(inputs, (op(**inputs),))
    assert work.flops == 2 * 20 * 4 * (48 + 32)
    assert work.bytes == 20 * 48 * 2 + 3 * 4 + 3 * 4 + 2 * (3 * 4 * (48 + 32))


@pytest.mark.parametrize(("partial", "scale", "heads"), [(False, "fp32", 16), *exhaustive((True, "fp64", 128))])
def test_portable_kernels_compile_for_hopper(compile_for_hopper, partial, scale, heads):
    names = mla_decode_kernel.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("q_ptr", "cache_ptr", "out_ptr"), "*bf16")
    types |= dict.fromkeys(("table_ptr", "used_ptr"), "*i32") | dict.fromkeys(("part_ptr", "lse_ptr"), "*fp32")
    block_h, block_n = mla_decode.block_sizes(heads, 2)
    constants = {"HEADS": heads, "RANK": 512, "ROPE_SIZE": 64, "PAGE": 64, "PARTIAL": partial, "BLOCK_H": block_h,
                 "BLOCK_RANK": 512, "BLOCK_ROPE": 64, "BLOCK_N": block_n}  # fmt: skip
    ptx = compile_for_hopper(mla_decode_kernel, types | {"scale_log2e": scale}, constants, num_warps=8).ptx
    assert "cp.async.cg.shared.global" in ptx
    assert "mma.sync" in ptx
    assert "__local_depot" not in ptx
    types = {"part_ptr": "*fp32", "lse_ptr": "*fp32", "out_ptr": "*bf16", "splits": "i32"}
    assert compile_for_hopper(mla_combine_kernel, types, {"BLOCK_S": 64, "RANK": 512, "COLUMNS": 128}).ptx


@pytest.mark.parametrize(
    ("heads", "page_size", "partial"), [(16, 16, True), *exhaustive((128, 64, False), (64, 128, True))]
)
def test_hopper_kernel_compiles(tmp_path, monkeypatch, heads, page_size, partial):
    triton = pytest.importorskip("triton")
    if mla_decode.TensorDescriptor is None:
        pytest.skip("this Triton lacks Gluon")
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    layout = gl.NVMMASharedLayout(128, 16, 2)
    types = {"table_ptr": "*i32", "used_ptr": "*i32", "out_ptr": "*bf16", "part_ptr": "*fp32", "lse_ptr": "*fp32",
             "table_row": "i32", "splits": "i32", "scale_log2e": "fp32"}  # fmt: skip
    rows = min(page_size, 64)
    boxes = {"q_desc": (64, 256), "q_rope_desc": (64, 64), "cache_desc": (rows, 256), "rope_desc": (rows, 64)}
    types |= {name: f"tensordesc<bf16[{r}, {c}],{layout!r}>" for name, (r, c) in boxes.items()}
    constants = {"HEADS": heads, "PAGE": page_size, "PARTIAL": partial}
    kernel = mla_decode.mla_decode_hopper_kernel
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    pointers = [name for name in types if name.endswith("_ptr")]
    aligned = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    source = GluonASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    ptx = compiled.asm["ptx"]
    assert ptx.count("cp.async.bulk.tensor") == 9 + 64 // rows * 9  # 64 columns a copy
    assert ptx.count("wgmma.mma_async") >= 2 * 36 + 2 * 4
    assert "setmaxnreg" in ptx
    assert "__local_depot" not in ptx
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
    ("heads", "used", "page_size", "splits"), [(128, [8192], 64, 64), (16, [100] * 140, 16, 1), (65, [3] * 9, 128, 1)]
)
def test_hopper_launch(monkeypatch, heads, used, page_size, splits):
    op = made(heads, 512, 64)
    inputs = given(op, used, page_size, torch.bfloat16)
    attend, join = Recorder(mla_decode.mla_decode_hopper_kernel), Recorder(mla_combine_kernel)
    monkeypatch.setattr(mla_decode, "mla_decode_hopper_kernel", attend)
    monkeypatch.setattr(mla_decode, "mla_combine_kernel", join)
    monkeypatch.setattr(mla_decode, "on_hopper", lambda device: True)
    monkeypatch.setattr(mla_decode, "processors", lambda device: 132)
    out = op.forward_cuda(**inputs)
    seen, tiles, pages = attend.given, -(-heads // 64), len(inputs["kv_cache"])
    assert out.shape == (len(used), heads, 512)
    assert attend.grid == (len(used) * tiles * splits,)
    assert (seen["splits"], seen["PARTIAL"], seen["HEADS"], seen["PAGE"]) == (splits, splits > 1, heads, page_size)
    maps, rows = [seen[n] for n in ("q_desc", "q_rope_desc", "cache_desc", "rope_desc")], min(page_size, 64)
    assert [m.block_shape for m in maps] == [[64, 256], [64, 64], [rows, 256], [rows, 64]]
    assert [m.shape for m in maps] == [[len(used) * heads, 576]] * 2 + [[pages * page_size, 576]] * 2
    if splits > 1:
        assert join.grid == (len(used) * heads, 4)
        assert (seen["part_ptr"].shape, seen["part_ptr"].dtype) == ((len(used), heads, splits, 512), torch.float32)
        assert join.given["out_ptr"] is out
    else:
        assert seen["out_ptr"] is out


def test_hopper_launch_leaves_what_the_copy_engine_cannot_read():
    op = made(4, 512, 64)
    inputs = given(op, [40], 16, torch.bfloat16)
    query, cache = inputs["query"], inputs["kv_cache"]
    copies = mla_decode.copies_by_tensor_map
    assert copies(query, cache)
    assert copies(query, torch.zeros(2, 192, 576).bfloat16())
    gaps, wide = torch.zeros(9, 20, 576).bfloat16()[:, :16], torch.zeros(9, 16, 640).bfloat16()[..., :576]
    assert copies(query, wide)
    sizes = (torch.zeros(2, size, 576).bfloat16() for size in (24, 8, 1))
    for wrong in (gaps, cache.float(), cache[:0], *sizes):
        assert not copies(query, wrong)
    assert not copies(query.transpose(0, 1).expand(4, 4, 576).transpose(0, 1), cache)
    assert not copies(query.half(), cache)
    assert not copies(query[..., :48].contiguous(), cache[..., :48])


def test_operator_for_torch_compile(monkeypatch):
    op = made(4)
    inputs = given(op, [12, 5])
    want = op(**inputs)

    def native(query, kv_cache, block_table, seqused_k, out, part, lse, splits, scale):
        assert splits == 1
        out.copy_(op.forward_native(query, kv_cache, block_table, seqused_k, 12))

    monkeypatch.setattr(mla_decode, "launch_blocks", native)
    compiled = torch.compile(op.forward_cuda, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs), want)


def on_gpu(op, inputs):
    want = expected(op, inputs)
    kept = {name: value.clone() for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    got = op(**inputs)
    for name, value in kept.items():
        assert torch.equal(inputs[name].nan_to_num(), value.nan_to_num()), f"{name} changed"
    check(got, want)
    error = ((got.double() - want).norm() / want.norm()).item()
    allowed = {torch.bfloat16: 5e-3, torch.float16: 8e-4, torch.float32: 1e-5}[got.dtype]
    assert error < allowed, f"relative error {error}"
    assert torch.equal(got, op(**inputs)), "two runs differ"


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [128, 64, 32, 16, 100])
@pytest.mark.parametrize("page_size", [64, 16, 128])
@pytest.mark.parametrize(
    "used", [[1024], [64], [1, 64, 65, 0, 700, 128, 129], [100 + 13 * i for i in range(140)], [8000, 5]]
)
def test_cuda_agrees(heads, page_size, used):
    op = made(heads, 512, 64)
    on_gpu(op, given(op, used, page_size, torch.bfloat16, "cuda", slack=20))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "rank", "page_size"),
    [(torch.float16, 512, 64), (torch.float32, 512, 64), (torch.bfloat16, 256, 16), (torch.bfloat16, 512, 1)],
)
def test_cuda_agrees_in_other_dtypes_and_sizes(dtype, rank, page_size):
    op = made(24, rank, 64)
    on_gpu(op, given(op, [300, 1, 77], page_size, dtype, "cuda"))


@pytest.mark.gpu
def test_cuda_portable_kernel_agrees(monkeypatch):
    monkeypatch.setattr(mla_decode, "on_hopper", lambda device: False)
    for heads in (128, 16):
        op = made(heads, 512, 64)
        on_gpu(op, given(op, [300, 1, 0, 777], 64, torch.bfloat16, "cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("sequences", [2, 140])
def test_cuda_graph_replays_with_other_lengths(sequences):
    op = made(128, 512, 64)
    inputs = given(op, [900] * sequences, 64, torch.bfloat16, "cuda", slack=1000)
    op(**inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(**inputs)
    inputs["seqused_k"].copy_(torch.arange(sequences) % 900)
    inputs["query"].normal_()
    out.fill_(float("nan"))
    graph.replay()
    check(out, expected(op, inputs))


@pytest.mark.gpu
@pytest.mark.parametrize("sequences", [2, 140])
def test_cuda_under_torch_compile(sequences):
    op = made(128, 512, 64)
    inputs = given(op, [200] * sequences, 64, torch.bfloat16, "cuda")
    assert torch.equal(torch.compile(op, fullgraph=True, dynamic=False)(**inputs), op(**inputs))
