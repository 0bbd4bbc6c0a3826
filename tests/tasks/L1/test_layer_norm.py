"""layer_norm against its formula in float64 and torch's module, its kernel in the interpreter and compiled."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.layer_norm import LayerNorm, layer_norm_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}


def made(hidden, dtype=torch.float32, eps=1e-3, device="cpu"):
    op = LayerNorm(hidden, eps, dtype).requires_grad_(False).to(device)
    op.weight.normal_().add_(1)
    op.bias.normal_()
    return op


def expected(op, x):
    wide = x.double()
    centred = wide - wide.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + op.eps).rsqrt()
    return centred * scale * op.weight.double() + op.bias.double()


def close(got, op, x):
    atol, rtol = TOLERANCE[x.dtype]
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), expected(op, x), atol=atol, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 66), (3, 512), (2, 5, 64), (0, 16)])
def test_native_is_the_formula_and_torchs_module(dtype, shape):
    op, x = made(shape[-1], dtype), (torch.randn(shape) * 3 + 1).to(dtype)
    close(op(x), op, x)
    module = torch.nn.LayerNorm(shape[-1], op.eps, dtype=dtype).requires_grad_(False)
    module.load_state_dict(op.state_dict())
    close(module(x), op, x)


def test_float64_is_computed_in_float64():
    op, x = made(66, torch.float64), torch.randn(3, 66, dtype=torch.float64)
    torch.testing.assert_close(op(x), expected(op, x), atol=1e-14, rtol=1e-14)


WRONG = {
    "no bias": lambda op, x: op(x) - op.bias,
    "another eps": lambda op, x: op(x * 2),
    "no mean": lambda op, x: x * (x.square().mean(-1, keepdim=True) + op.eps).rsqrt() * op.weight + op.bias,
    "sample variance": lambda op, x: (op(x) - op.bias) * (65 / 66) ** 0.5 + op.bias,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_norm_is_found(wrong):
    op, x = made(66), torch.randn(5, 66) + 1
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(WRONG[wrong](op, x), op, x)


@pytest.mark.parametrize(("shape", "dtype"), [((3, 66), torch.float32), ((2, 2, 512), torch.float16)])
def test_kernel_in_the_interpreter(interpreter, shape, dtype):
    op, x = made(shape[-1], dtype), (torch.randn(shape) + 1).to(dtype)
    init = {"normalized_shape": shape[-1], "eps": op.eps, "dtype": dtype}
    output, after = interpreter(op, init, {"x": x})
    close(output, op, x)
    assert torch.equal(after["x"], x)


def test_kernel_on_strided_rows_in_the_interpreter(interpreter):
    op, x = made(66), torch.randn(3, 100)[:, :66]
    close(interpreter(op, {"normalized_shape": 66, "eps": op.eps}, {"x": x})[0], op, x)


@pytest.mark.parametrize("mutation", [
    ("* weight + bias", "* weight"), ("tl.where(mask, x - tl", "tl.where(True, x - tl"), ("+ eps)", "+ 2 * eps + 0.1)"),
    ("x - tl.sum(x, axis=0) * (1.0 / HIDDEN)", "x"),
])  # fmt: skip
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op, x = made(66), torch.randn(3, 66) + 1
    output, _ = interpreter(op, {"normalized_shape": 66, "eps": op.eps}, {"x": x}, replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(output, op, x)


def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper):
    types = dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr", "out_ptr"), "*bf16") | {"x_row": "i32", "eps": "fp32"}
    ptx = compile_for_hopper(layer_norm_kernel, types, {"HIDDEN": 4608, "BLOCK": 8192}, num_warps=16).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 4608), (513, 3072), (3, 5, 66)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(shape, dtype):
    op, x = made(shape[-1], dtype, device="cuda"), torch.randn(shape, device="cuda").to(dtype)
    close(op(x), op, x)
