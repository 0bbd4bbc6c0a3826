"""gelu against its two formulas in float64, its kernel in the interpreter and compiled, and wrong kernels."""

import math

import pytest
import torch

from fastkernels.tasks.baseline.L1.gelu import GELU, gelu_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}
FORMS = ["none", "tanh"]


def expected(x, approximate):
    x = x.double()
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def close(got, x, approximate):
    atol, rtol = TOLERANCE[x.dtype]
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), expected(x, approximate), atol=atol, rtol=rtol)


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 66), (2, 5, 64)])
def test_native_is_the_formula(approximate, dtype, shape):
    x = torch.randn(shape).to(dtype) * 3
    close(GELU(approximate)(x), x, approximate)


def test_an_unknown_approximation_is_an_error():
    with pytest.raises(ValueError, match="approximate: 'erf' is not one of none, tanh"):
        GELU("erf")


def test_the_two_forms_are_told_apart():
    x = torch.randn(64, 66)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(GELU("none")(x), x, "tanh")


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize(("shape", "dtype"), [((3, 66), torch.float32), ((2, 2048), torch.float16)])
def test_kernel_in_the_interpreter(interpreter, shape, dtype, approximate):
    x = torch.randn(shape).to(dtype) * 3
    output, after = interpreter(GELU(approximate), {"approximate": approximate}, {"x": x})
    close(output, x, approximate)
    assert torch.equal(after["x"], x)


@pytest.mark.parametrize(
    ("approximate", "mutation"),
    [("tanh", ("0.044715", "0.04")), ("none", ("0.7071067", "0.7")), ("none", ("at < total", "at < total - 1"))],
)
def test_a_wrong_kernel_is_found(interpreter, approximate, mutation):
    x = torch.randn(3, 66) * 2
    output, _ = interpreter(GELU(approximate), {"approximate": approximate}, {"x": x}, replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(output, x, approximate)


@pytest.mark.parametrize("tanh", [False, True])
def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper, tanh):
    types = {"x_ptr": "*bf16", "out_ptr": "*bf16", "total": "i32"}
    ptx = compile_for_hopper(gelu_kernel, types, {"BLOCK": 1024, "TANH": tanh}, num_warps=4).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


@pytest.mark.gpu
@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("shape", [(1, 18432), (513, 18432), (3, 5, 33)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(shape, dtype, approximate):
    x = torch.randn(shape, device="cuda").to(dtype) * 3
    close(GELU(approximate)(x), x, approximate)
