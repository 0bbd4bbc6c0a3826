"""moe_sum against sums in Python, its kernel in the interpreter and compiled, and wrong kernels."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.moe_sum import MoeSum, moe_sum_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}


def close(got, x):
    atol, rtol = TOLERANCE[x.dtype]
    want = sum((x[:, k].double() for k in range(x.shape[1])), torch.zeros(x.shape[0], x.shape[2]).double())
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), want, atol=atol, rtol=rtol)


SHAPES = [(1, 2, 33), (3, 8, 64), (17, 1, 7), (5, 4, 1030)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_native_is_a_sum(dtype, shape):
    x = torch.randn(shape).to(dtype)
    close(MoeSum()(x), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_float64_in_float64(dtype):
    x = torch.tensor([2048.0, 3.0, 3.0, -2048.0]).to(dtype).view(1, 4, 1)  # bf16 would lose both threes
    assert MoeSum()(x).item() == 6.0
    wide = torch.tensor([1.0, 1e-12, -1.0], dtype=torch.float64).view(1, 3, 1)
    torch.testing.assert_close(MoeSum()(wide).item(), 1e-12, atol=1e-15, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_in_the_interpreter(interpreter, dtype, shape):
    x = torch.randn(shape).to(dtype)
    got, _ = interpreter(MoeSum(), {}, {"x": x})
    close(got, x)


def test_kernel_reads_strided_tokens(interpreter):
    x = torch.randn(5, 6, 40)[:, ::2, :33]
    got, _ = interpreter(MoeSum(), {}, {"x": x})
    close(got, x)


@pytest.mark.parametrize(
    "mutation",
    [
        ("tl.static_range(TOP_K)", "tl.static_range(1, TOP_K)"),
        ("k * x_row", "0 * x_row"),
        ("col < WIDTH", "col < WIDTH - 1"),
        ("total = tl.zeros([BLOCK], tl.float32)", "total = tl.zeros([BLOCK], tl.float32) + 1"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    x = torch.randn(3, 4, 65)
    got, _ = interpreter(MoeSum(), {}, {"x": x}, replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(got, x)


def test_kernel_compiles_for_hopper(compile_for_hopper):
    types = {"x_ptr": "*bf16", "out_ptr": "*bf16", "x_token": "i32", "x_row": "i32"}
    ptx = compile_for_hopper(moe_sum_kernel, types, {"TOP_K": 8, "WIDTH": 2048, "BLOCK": 512}, num_warps=2).ptx
    assert ptx.count("ld.global.v4") >= 8
    assert "__local_depot" not in ptx


def test_work():
    x = torch.randn(3, 4, 64, dtype=torch.bfloat16)
    work = MoeSum().work({"x": x}, (MoeSum()(x),))
    assert (work.bytes, work.flops) == (2 * 3 * (4 + 1) * 64, 3 * 3 * 64)


@pytest.mark.gpu
@pytest.mark.parametrize(("top_k", "width"), [(2, 4096), (8, 2048), (4, 2880)])
@pytest.mark.parametrize("tokens", [1, 33, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(tokens, top_k, width, dtype):
    x = torch.randn(tokens, top_k, width, device="cuda").to(dtype)
    atol, rtol = TOLERANCE[dtype]
    torch.testing.assert_close(MoeSum()(x).double(), x.double().sum(dim=1), atol=atol, rtol=rtol)


@pytest.mark.gpu
def test_cuda_under_torch_compile_and_graph_capture():
    op, x = MoeSum(), torch.randn(33, 8, 2048, device="cuda", dtype=torch.bfloat16)
    assert torch.equal(torch.compile(op, fullgraph=True, dynamic=False)(x), op(x))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(x)
    x.normal_()
    graph.replay()
    assert torch.equal(out, op(x))
