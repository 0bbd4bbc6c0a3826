"""moe_grouped_gemm against a product a row, its kernel in the interpreter and compiled for Hopper, wrong kernels."""

import pytest
import torch

from fastkernels.tasks.baseline.L1 import moe_grouped_gemm
from fastkernels.tasks.baseline.L1.moe_align import MoeAlignBlockSize
from fastkernels.tasks.baseline.L1.moe_grouped_gemm import MoeGroupedGemm, Tile, choose_tile, moe_grouped_gemm_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-4, 1e-4)}


def made(experts, inner, outer, top_k=1, bias=False, dtype=torch.float32):
    op = MoeGroupedGemm(experts, inner, outer, top_k, bias, dtype).requires_grad_(False)
    op.weight.normal_().mul_(inner**-0.5)
    if bias:
        op.bias.normal_()
    return op


def routed(rows_or_tokens, experts, top_k):
    """[T, top_k] different experts of each token."""
    return torch.rand(rows_or_tokens, experts).topk(top_k).indices.to(torch.int32)


def given(op, ids, block_size, weighted=False):
    """Inputs of op for this routing; block_size None: without sorted ids."""
    tokens = ids.numel() // op.top_k
    inputs = {"x": torch.randn(tokens, op.input_size, dtype=op.weight.dtype)}
    if block_size is None:
        inputs |= {"sorted_token_ids": None, "expert_ids": ids.flatten()}
    else:
        names = ("sorted_token_ids", "expert_ids", "num_tokens_post_padded")
        inputs |= dict(zip(names, MoeAlignBlockSize(op.num_experts)(ids, block_size), strict=True))
    return inputs | {"topk_weights": torch.rand(ids.shape)} if weighted else inputs


def expected(op, ids, inputs):
    """Row by row in float64."""
    weight, x, rows = op.weight.double(), inputs["x"].double(), []
    for row, expert in enumerate(ids.flatten().tolist()):
        y = weight[expert] @ x[row // op.top_k]
        if op.bias is not None:
            y = y + op.bias[expert].double()
        rows.append(y * (inputs["topk_weights"].double().flatten()[row] if "topk_weights" in inputs else 1.0))
    return torch.stack(rows)


def close(got, op, ids, inputs):
    atol, rtol = TOLERANCE[op.weight.dtype]
    assert got.dtype == op.weight.dtype
    torch.testing.assert_close(got.double(), expected(op, ids, inputs), atol=atol, rtol=rtol)


@pytest.mark.parametrize(("bias", "weighted"), [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize("block_size", [None, 1, 16])
@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 8, 2), (3, 60, 4), (17, 128, 8), (17, 256, 1)])
def test_native_is_a_product_a_row(tokens, experts, top_k, block_size, bias, weighted):
    op, ids = made(experts, 33, 21, top_k, bias), routed(tokens, experts, top_k)
    inputs = given(op, ids, block_size, weighted)
    close(op(**inputs), op, ids, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32_and_rounds_once(dtype):
    op = made(2, 4096, 1, dtype=dtype)
    op.weight.fill_(1.0)
    x = torch.ones(1, 4096, dtype=dtype)
    assert op(x, None, torch.zeros(1, dtype=torch.int32), None, torch.tensor([0.75])).item() == 3072


def test_float64_is_computed_in_float64():
    op, ids = made(4, 33, 21, 2, True).double(), routed(5, 4, 2)
    inputs = given(op, ids, 16, True)
    inputs["topk_weights"] = inputs["topk_weights"].double()
    torch.testing.assert_close(op(**inputs), expected(op, ids, inputs), atol=1e-13, rtol=1e-13)


def test_no_tokens():
    op = made(4, 33, 21, 2)
    assert op(torch.zeros(0, 33), None, torch.zeros(0, dtype=torch.int32)).shape == (0, 21)
    assert op(**given(op, torch.zeros(0, 2, dtype=torch.int32), 16)).shape == (0, 21)


@pytest.mark.parametrize("wrong", ["expert", "token", "weight"])
def test_another_expert_token_or_weight_is_found(wrong):
    op, ids = made(4, 33, 21, 2, dtype=torch.bfloat16), routed(5, 4, 2)
    inputs = given(op, ids, None, True)
    changed = dict(inputs)
    if wrong == "expert":
        changed["expert_ids"] = (ids.flatten() + 1) % 4
    elif wrong == "token":
        changed["x"] = inputs["x"].roll(1, dims=0)
    else:
        changed["topk_weights"] = inputs["topk_weights"].flip(-1)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(op(**changed), op, ids, inputs)


INIT = ("num_experts", "input_size", "output_size", "top_k")


def interpreted(interpreter, op, inputs, **options):
    init = {name: getattr(op, name) for name in INIT} | {"bias": op.bias is not None, "dtype": op.weight.dtype}
    return interpreter(op, init, inputs, **options)[0]


@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize(("bias", "weighted"), [(False, False), (True, True)])
@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "block_size", "inner", "outer"),
    [(1, 8, 2, 16, 64, 72), (3, 60, 4, 16, 96, 136), (17, 8, 2, 16, 40, 56), (40, 3, 2, 64, 64, 136),
     (5, 8, 2, None, 72, 24), (2, 256, 8, None, 128, 64)],
)  # fmt: skip
def test_kernel_in_the_interpreter(interpreter, tokens, experts, top_k, block_size, inner, outer, bias, weighted, maps):
    op, ids = made(experts, inner, outer, top_k, bias, torch.float16), routed(tokens, experts, top_k)
    inputs = given(op, ids, block_size, weighted)
    close(interpreted(interpreter, op, inputs, settings={"TENSOR_MAPS": maps}), op, ids, inputs)


def test_kernel_takes_odd_sizes_and_strided_rows_in_float32(interpreter):
    op, ids = made(5, 33, 21, 2, True), routed(7, 5, 2)
    inputs = given(op, ids, 16, True)
    inputs["x"] = torch.randn(7, 70)[:, 1:34]
    close(interpreted(interpreter, op, inputs), op, ids, inputs)


def test_blocks_that_are_not_used_are_not_read(interpreter):
    op, ids = made(3, 32, 16, 1, False, torch.float16), routed(20, 3, 1)
    inputs = given(op, ids, 16)
    used = int(inputs["num_tokens_post_padded"])
    assert used < inputs["sorted_token_ids"].numel()
    inputs["sorted_token_ids"][used:] = 3  # would write row 3 again, by expert 2
    inputs["expert_ids"][used // 16 :] = (ids[3, 0] + 1) % 3
    close(interpreted(interpreter, op, inputs), op, ids, inputs)


MUTATIONS = [
    ("row, 0) // TOP_K", "row, 0) // (TOP_K + 1)"),
    ("expert * outer + n", "n"),
    ("acc *= tl.load", "acc + tl.load"),
    ("weight.load([first, start])", "weight.load([column, start])"),
    ("weight.load([first, start])", "weight.load([first, 0])"),
    ("mask=in_row & in_column[None, :]", "mask=in_row & (n < outer - 1)[None, :]"),
    ("in_group // group_size * BLOCK_N", "in_group % n_blocks * BLOCK_N"),
    ("program >= m_blocks * n_blocks", "program >= m_blocks * n_blocks - 1"),
]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op, ids = made(3, 160, 248, 2, True, torch.float16), routed(140, 3, 2)
    inputs = given(op, ids, 16, True)
    got = interpreted(interpreter, op, inputs, replace=(mutation, ("Tile(64, block_k, 1,", "Tile(64, block_k, 4,")))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(got, op, ids, inputs)


@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("block_m", [16, 32, 64, 128])
def test_kernel_compiles_for_hopper(compile_for_hopper, block_m, maps):
    tile = choose_tile(block_m, 4096, 2)
    names = moe_grouped_gemm_kernel.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("x_ptr", "bias_ptr", "out_ptr"), "*bf16")
    types |= dict.fromkeys(("sorted_ptr", "expert_ids_ptr", "padded_ptr"), "*i32") | {"scale_ptr": "*fp32"}
    types |= {"weight": f"tensordesc<bf16[{tile.block_n}, {tile.block_k}]>" if maps else "*bf16"}
    constants = {"TOP_K": 2, "BLOCK_M": block_m, "BLOCK_N": tile.block_n, "BLOCK_K": tile.block_k,
                 "SORTED": True, "WHOLE_K": True, "HAS_BIAS": False, "SCALED": True,
                 "TENSOR_MAP": maps}  # fmt: skip
    ptx = compile_for_hopper(moe_grouped_gemm_kernel, types, constants, num_warps=tile.num_warps).ptx
    assert ("mma.sync" if block_m < 64 else "wgmma") in ptx
    assert ("cp.async.bulk.tensor" in ptx) == maps
    assert "__local_depot" not in ptx


def test_what_the_copy_engine_cannot_read_goes_without_tensor_maps(monkeypatch):
    weight = torch.randn(3, 8, 16, dtype=torch.bfloat16)
    assert moe_grouped_gemm.copies_by_tensor_map(weight)
    off = torch.cat((weight.new_zeros(1), weight.flatten()))[1:].view_as(weight)
    for wrong in (weight[:, :, :12].contiguous(), weight.transpose(0, 1), off):
        assert not moe_grouped_gemm.copies_by_tensor_map(wrong)
    monkeypatch.setattr(moe_grouped_gemm, "TENSOR_MAPS", False)
    assert not moe_grouped_gemm.copies_by_tensor_map(weight)


def test_operator_for_torch_compile(monkeypatch):
    op, ids = made(5, 33, 21, 2, True), routed(7, 5, 2)

    def native(x, weight, out, sorted_ids, expert_ids, padded, scale, bias, top_k, tile, by_map):
        assert weight is op.weight
        assert bias is op.bias
        assert top_k == 2
        out.copy_(op.forward_native(x, sorted_ids, expert_ids, padded, scale))

    monkeypatch.setattr(moe_grouped_gemm, "launch_tiles", native)
    for block_size in (None, 16):
        inputs = given(op, ids, block_size, True)
        compiled = torch.compile(op.forward_cuda, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(**inputs), op(**inputs))


@pytest.mark.parametrize("block_size", [None, 16])
def test_work_counts_the_experts_that_have_rows(block_size):
    op = made(8, 64, 32, 2, True)
    ids = torch.tensor([[0, 3], [3, 5], [0, 5]], dtype=torch.int32)
    inputs = given(op, ids, block_size)
    work = op.work(inputs, (op(**inputs),))
    assert work.flops == 2 * 6 * 64 * 32
    assert work.bytes == 4 * (3 * 64 + 3 * (64 + 1) * 32 + 6 * 32 + 6)


def on_gpu(op, inputs):
    """Agrees with the native path in float32, leaves its inputs alone, gives the same again."""
    wide = MoeGroupedGemm(op.num_experts, 1, 1, op.top_k)
    wide.output_size, wide.weight = op.output_size, torch.nn.Parameter(op.weight.float(), requires_grad=False)
    wide.bias = None if op.bias is None else torch.nn.Parameter(op.bias.float(), requires_grad=False)
    want = wide.forward_native(**inputs | {"x": inputs["x"].float()})
    kept = {name: value.clone() for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    got = op(**inputs)
    atol, rtol = TOLERANCE[op.weight.dtype]
    torch.testing.assert_close(got.float(), want, atol=atol, rtol=rtol)
    assert all(torch.equal(inputs[name], value) for name, value in kept.items())
    assert torch.equal(got, op(**inputs))


def on_device(inputs):
    return {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


SIZES = {
    "mixtral-up": (8, 4096, 28672, 2, 2), "mixtral-down": (8, 14336, 4096, 1, 2), "qwen3-up": (128, 2048, 1536, 8, 8),
    "qwen3-down": (128, 768, 2048, 1, 8), "gpt-oss-up": (32, 2880, 5760, 4, 4), "deepseek-tp8": (256, 7168, 512, 8, 8),
}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("tokens", "block_size"), [(1, None), (1, 16), (33, 16), (100, 32), (512, 64), (1000, 128)])
def test_cuda_agrees_at_real_shapes(name, tokens, block_size):
    experts, inner, outer, top_k, chosen = SIZES[name]
    torch.manual_seed(0)
    with torch.device("cuda"):
        op = made(experts, inner, outer, top_k, name.startswith("gpt"), torch.bfloat16)
        ids = torch.rand(tokens, experts).topk(chosen).indices.to(torch.int32)
        on_gpu(op, given(op, ids, block_size, top_k == 1))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("block_size", [None, 16, 32, 64, 128, 256])
def test_cuda_agrees_at_odd_sizes(monkeypatch, block_size, maps, dtype):
    monkeypatch.setattr(moe_grouped_gemm, "TENSOR_MAPS", maps)
    for inner, outer in ((136, 200), (128, 72), (33, 21)):
        op, ids = made(9, inner, outer, 3, True, dtype), routed(70, 9, 3)
        on_gpu(op.cuda(), on_device(given(op, ids, block_size, True)))


@pytest.mark.gpu
def test_cuda_under_torch_compile_and_graph_capture():
    op, ids = made(128, 2048, 1536, 8, False, torch.bfloat16), routed(33, 128, 8)
    inputs, narrow = given(op, ids, 16), given(op, torch.arange(8).to(torch.int32).expand_as(ids), 16)
    op, inputs = op.cuda(), on_device(inputs)
    assert torch.equal(torch.compile(op, fullgraph=True, dynamic=False)(**inputs), op(**inputs))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(**inputs)
    for name, value in on_device(narrow).items():  # fewer blocks than before
        inputs[name].copy_(value)
    out.fill_(float("nan"))
    graph.replay()
    assert torch.equal(out, op(**inputs))


def test_tiles_fit_in_shared_memory():
    for block_m in (16, 32, 64, 128, 256):
        for inner in (4096, 2880, 768):
            tile: Tile = choose_tile(block_m, inner, 2)
            assert tile.num_stages * (block_m + tile.block_n) * tile.block_k * 2 <= 227 * 1024
