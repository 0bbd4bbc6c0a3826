"""linear against an explicit matrix product in float64, and its count of work."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.linear import Linear

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}


def linear(inner, outer, bias=False, dtype=torch.float32):
    op = Linear(inner, outer, bias, dtype).requires_grad_(False)
    if bias:
        op.bias.copy_(torch.randn(outer))
    return op


def expected(op, x):
    product = torch.einsum("...i,oi->...o", x.double(), op.weight.double())
    return product if op.bias is None else product + op.bias.double()


def close(got, op, x):
    atol, rtol = TOLERANCE[x.dtype]
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), expected(op, x), atol=atol, rtol=rtol)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 33), (3, 256), (2, 5, 64)])
def test_native_is_a_matrix_product(bias, dtype, shape):
    op, x = linear(shape[-1], 37, bias, dtype), torch.randn(shape).to(dtype)
    close(op(x), op, x)


def test_float64_is_computed_in_float64():
    op, x = linear(33, 5, True).double(), torch.randn(3, 33, dtype=torch.float64)
    torch.testing.assert_close(op(x), expected(op, x), atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype):
    op, x = Linear(4096, 1, dtype=dtype).requires_grad_(False), torch.ones(1, 4096, dtype=dtype)
    op.weight.fill_(1.0)  # summed in bf16 it would stop at 256, in float16 at 2048
    assert op(x).item() == 4096


def test_a_transposed_weight_or_a_lost_input_is_outside_the_tolerance():
    op, x = linear(32, 32, dtype=torch.bfloat16), torch.randn(3, 32).to(torch.bfloat16)
    lost = x.clone()
    lost[:, -1] = 0
    for wrong in (x @ op.weight, op(lost)):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(wrong, op, x)


def test_state_dict_and_work():
    op, x = linear(64, 32, True), torch.randn(3, 64)
    assert list(op.state_dict()) == ["weight", "bias"]
    assert list(linear(64, 32).state_dict()) == ["weight"]
    work = op.work({"x": x}, (op(x),))
    assert work.flops == 2 * 3 * 64 * 32
    assert work.bytes == 4 * (3 * 64 + 64 * 32 + 32 + 3 * 32)


@pytest.mark.gpu
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens", [1, 33, 512])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(tokens, bias, dtype):
    op, x = linear(4096, 1536, bias, dtype).cuda(), torch.randn(tokens, 4096, device="cuda").to(dtype)
    close(op(x), op, x)
