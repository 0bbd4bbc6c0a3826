"""silu_and_mul against x sigmoid(x) y in float64, its kernel in the interpreter and compiled, and wrong kernels."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.silu_and_mul import SiluAndMul, silu_and_mul_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}


def expected(x):
    width = x.shape[-1] // 2
    gate, up = x.double()[..., :width], x.double()[..., width:]
    return gate * torch.sigmoid(gate) * up


def close(got, x):
    atol, rtol = TOLERANCE[x.dtype]
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), expected(x), atol=atol, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 66), (3, 512), (2, 5, 64), (10,)])
def test_native_is_silu_times_the_other_half(dtype, shape):
    x = torch.randn(shape).to(dtype) * 4
    close(SiluAndMul()(x), x)


def test_float64_is_computed_in_float64():
    x = torch.randn(3, 66, dtype=torch.float64)
    torch.testing.assert_close(SiluAndMul()(x), expected(x), atol=1e-14, rtol=1e-14)


def test_large_and_tiny_gates_stay_finite():
    x = torch.tensor([[-1e4, 1e4, -200.0, 0.0, 1.0, 1.0, 1.0, 1.0]])
    assert SiluAndMul()(x).tolist() == [[0.0, 1e4, 0.0, 0.0]]


def test_swapped_halves_or_a_missing_sigmoid_are_outside_the_tolerance():
    x = torch.randn(3, 66).to(torch.bfloat16)
    gate, up = x.chunk(2, dim=-1)
    for wrong in (SiluAndMul()(torch.cat((up, gate), dim=-1)), gate * up):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(wrong, x)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 66), torch.float32), ((1, 7168), torch.float16), ((2, 3, 2048), torch.float32)]
)
def test_kernel_in_the_interpreter(interpreter, shape, dtype):
    x = torch.randn(shape).to(dtype) * 4
    output, after = interpreter(SiluAndMul(), {}, {"x": x})
    close(output, x)
    assert torch.equal(after["x"], x)


def test_kernel_reads_strided_rows(interpreter):
    x = torch.randn(3, 200)[:, 16:144]
    close(interpreter(SiluAndMul(), {}, {"x": x})[0], x)


@pytest.mark.parametrize(
    "mutation",
    [("col < WIDTH", "col < WIDTH - 1"), ("tl.exp(-gate)", "tl.exp(gate)"), ("+ WIDTH + col", "+ WIDTH - 1 + col")],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    x = torch.randn(3, 66)
    output, _ = interpreter(SiluAndMul(), {}, {"x": x}, replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(output, x)


def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper):
    types = {"x_ptr": "*bf16", "out_ptr": "*bf16", "x_row": "i32"}
    ptx = compile_for_hopper(silu_and_mul_kernel, types, {"WIDTH": 14336, "BLOCK": 1024}, num_warps=4).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 28672), (513, 7168), (4096, 28672), (3, 5, 66)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(shape, dtype):
    x = torch.randn(shape, device="cuda").to(dtype) * 4
    close(SiluAndMul()(x), x)
