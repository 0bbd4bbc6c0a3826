"""swigluoai_and_mul against GPT-OSS's formula, its kernel in the interpreter and compiled, and wrong kernels."""

import math

import pytest
import torch

from fastkernels.tasks.baseline.L1.swigluoai_and_mul import SwigluOAIAndMul, swigluoai_and_mul_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}


def expected(x, alpha=1.702, limit=7.0):
    """The formula in Python floats."""
    flat = []
    for gate, up in x.double().reshape(-1, 2).tolist():
        gate, up = min(gate, limit), max(-limit, min(up, limit))
        flat.append((up + 1) * gate / (1 + math.exp(min(-alpha * gate, 700))))
    return torch.tensor(flat, dtype=torch.float64).view(*x.shape[:-1], -1)


def close(got, x, **arguments):
    atol, rtol = TOLERANCE[x.dtype]
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), expected(x, **arguments), atol=atol, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 2), (3, 66), (2, 5, 64)])
def test_native_is_the_clamped_swiglu(dtype, shape):
    x = (torch.randn(shape) * 6).to(dtype)
    close(SwigluOAIAndMul()(x), x)
    close(SwigluOAIAndMul(1.0, 3.0)(x), x, alpha=1.0, limit=3.0)


def test_native_agrees_with_transformers():
    from types import SimpleNamespace

    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

    x = torch.randn(5, 64) * 6
    want = GptOssExperts._apply_gate(SimpleNamespace(limit=7.0, alpha=1.702), x)
    torch.testing.assert_close(SwigluOAIAndMul()(x), want)


def test_float64_is_computed_in_float64():
    x = torch.randn(3, 16, dtype=torch.float64) * 5
    torch.testing.assert_close(SwigluOAIAndMul()(x), expected(x), atol=1e-13, rtol=1e-13)


def test_another_order_of_gate_and_up_is_found():
    x = torch.randn(3, 64) * 3
    for wrong in (x.flip(-1), torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(SwigluOAIAndMul()(wrong), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 2), (3, 66), (17, 2880)])
def test_kernel_in_the_interpreter(interpreter, dtype, shape):
    x = (torch.randn(shape) * 6).to(dtype)
    got, _ = interpreter(SwigluOAIAndMul(), {}, {"x": x})
    close(got, x)


def test_kernel_reads_strided_rows_and_keeps_nan(interpreter):
    x = torch.randn(4, 3, 128)[:, 1]
    x[1, 6], x[2, 9], x[3, 0], x[3, 3] = (float(word) for word in ("nan", "nan", "inf", "-inf"))
    got, after = interpreter(SwigluOAIAndMul(), {}, {"x": x})
    torch.testing.assert_close(got, SwigluOAIAndMul()(x), equal_nan=True)
    assert got.isnan().nonzero().tolist() == [[1, 3], [2, 4]]
    assert torch.equal(after["x"].nan_to_num(), x.nan_to_num())


@pytest.mark.parametrize(
    "mutation",
    [
        ("(up + 1.0) * gate", "up * gate"),
        ("tl.where(gate > limit, limit, gate)", "gate"),
        ("tl.where(up < -limit, -limit, up)", "up"),
        ("tl.exp(-alpha * gate)", "tl.exp(-gate)"),
        ("mask=col < WIDTH", "mask=col < WIDTH - 1"),
        ("gate, up = tl.split", "up, gate = tl.split"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    x = torch.randn(3, 66) * 6
    got, _ = interpreter(SwigluOAIAndMul(), {}, {"x": x}, replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(got, x)


def test_kernel_compiles_for_hopper(compile_for_hopper):
    types = {"x_ptr": "*bf16", "out_ptr": "*bf16", "x_row": "i32", "alpha": "fp32", "limit": "fp32"}
    ptx = compile_for_hopper(swigluoai_and_mul_kernel, types, {"WIDTH": 2880, "BLOCK": 1024}).ptx
    assert "ld.global.v4" in ptx
    assert "__local_depot" not in ptx


def test_work():
    x = torch.randn(3, 64, dtype=torch.bfloat16)
    work = SwigluOAIAndMul().work({"x": x}, (SwigluOAIAndMul()(x),))
    assert (work.bytes, work.flops) == (2 * 3 * (64 + 32), 10 * 3 * 32)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [2880, 360, 1440])
@pytest.mark.parametrize("tokens", [1, 33, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(tokens, width, dtype):
    x = (torch.randn(tokens, 2 * width, device="cuda") * 6).to(dtype)
    atol, rtol = TOLERANCE[dtype]
    want = SwigluOAIAndMul().forward_native(x.double())
    torch.testing.assert_close(SwigluOAIAndMul()(x).double(), want, atol=atol, rtol=rtol)


@pytest.mark.gpu
def test_cuda_under_torch_compile_and_graph_capture():
    op, x = SwigluOAIAndMul(), torch.randn(33, 5760, device="cuda", dtype=torch.bfloat16)
    assert torch.equal(torch.compile(op, fullgraph=True, dynamic=False)(x), op(x))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(x)
    x.normal_()
    graph.replay()
    assert torch.equal(out, op(x))
