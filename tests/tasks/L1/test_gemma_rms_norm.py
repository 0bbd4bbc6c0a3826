"""gemma_rms_norm against torch's formula and Hugging Face's Gemma 3, its kernel interpreted, compiled and mutated."""

import pytest
import torch
from torch.nn import functional as F

from fastkernels.tasks.baseline.L1.gemma_rms_norm import GemmaRMSNorm, gemma_rms_norm_kernel

TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}
BF16_ROUNDS_DOWN = {torch.bfloat16: (1e-2, 2.4e-2)}  # the interpreter truncates: one more unit in the last place


def norm(hidden, dtype=torch.float32, eps=1e-5):
    op = GemmaRMSNorm(hidden, eps, dtype=dtype).requires_grad_(False)
    op.weight.copy_(torch.rand(hidden) - 0.5)
    return op


def expected(op, x, residual=None):
    wide = x.double() if residual is None else x.double() + residual.double()
    return F.rms_norm(wide, (x.shape[-1],), 1 + op.weight.double(), op.variance_epsilon), wide


def close(got, want, dtype, tolerance=TOLERANCE):
    atol, rtol = tolerance.get(dtype, TOLERANCE[dtype])
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, atol=atol, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 33), (3, 4096), (2, 5, 128), (64,)])
def test_native_is_rms_norm_with_an_offset_weight(dtype, shape):
    op, x = norm(shape[-1], dtype), torch.randn(shape).to(dtype)
    close(op(x), expected(op, x)[0], dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_native_with_a_residual_gives_norm_and_sum_and_leaves_inputs_alone(dtype):
    op, x, residual = norm(33, dtype), torch.randn(3, 33).to(dtype), torch.randn(3, 33).to(dtype)
    before = x.clone(), residual.clone()
    normed, total = op(x, residual)
    want, want_total = expected(op, x, residual)
    close(normed, want, dtype)
    close(total, want_total, dtype)
    assert torch.equal(x, before[0])
    assert torch.equal(residual, before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_native_equals_gemma_3_of_hugging_face(dtype):
    pytest.importorskip("transformers")
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

    op, x = norm(33, dtype, 1e-6), torch.randn(5, 33).to(dtype)
    reference = Gemma3RMSNorm(33, eps=1e-6).to(dtype)
    reference.load_state_dict(op.state_dict())
    assert torch.equal(op(x), reference(x))


def test_a_fresh_module_scales_by_one():
    x = torch.randn(4, 33)
    torch.testing.assert_close(GemmaRMSNorm(33)(x), F.rms_norm(x, (33,), eps=1e-6))


def test_float64_is_computed_in_float64():
    op, x = norm(33).double(), torch.randn(4, 33, dtype=torch.float64)
    torch.testing.assert_close(op(x), expected(op, x)[0], atol=1e-14, rtol=1e-14)


def test_half_precision_sums_in_float32():
    x = torch.full((1, 4096), 300.0, dtype=torch.float16)  # 300^2 alone overflows float16
    torch.testing.assert_close(GemmaRMSNorm(4096, dtype=torch.float16)(x), torch.ones_like(x), atol=1e-3, rtol=0)


def test_a_wrong_eps_or_a_lost_column_is_outside_the_tolerance():
    op, x = norm(33, torch.bfloat16), torch.randn(4, 33).to(torch.bfloat16) * 0.05
    wrong_eps = F.rms_norm(x.float(), (33,), 1 + op.weight.float(), 1e-3)
    lost = torch.cat((op(x)[:, :-1], x[:, -1:]), dim=-1)
    for wrong in (wrong_eps.to(torch.bfloat16), lost):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(wrong, expected(op, x)[0], torch.bfloat16)


def inputs(shape, residual, dtype):
    made = {"x": torch.randn(shape).to(dtype)}
    return {**made, "residual": torch.randn(shape).to(dtype)} if residual else made


@pytest.mark.parametrize("residual", [False, True], ids=["x", "residual"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 33), torch.float32), ((1, 4096), torch.bfloat16), ((5, 3584), torch.float16), ((3, 5, 128), torch.bfloat16)],
)
def test_kernel_in_the_interpreter(interpreter, shape, dtype, residual):
    op, given = norm(shape[-1], dtype), inputs(shape, residual, dtype)
    outputs, after = interpreter(op, {"hidden_size": shape[-1], "eps": 1e-5, "dtype": dtype}, given)
    want, total = expected(op, **given)
    close(outputs[0] if residual else outputs, want, dtype, BF16_ROUNDS_DOWN)
    if residual:
        close(outputs[1], total, dtype, BF16_ROUNDS_DOWN)
    assert all(torch.equal(after[name], given[name]) for name in given)


def test_kernel_for_many_rows_in_the_interpreter(interpreter):
    op, given = norm(2048), inputs((5, 2048), True, torch.float32)
    (normed, total), _ = interpreter(op, {"hidden_size": 2048, "eps": 1e-5}, given, settings={"MANY_ROWS": 1})
    want, want_total = expected(op, **given)
    close(normed, want, torch.float32)
    close(total, want_total, torch.float32)


def test_kernel_reads_heads_inside_a_wider_row(interpreter):
    op, qkv = norm(64), torch.randn(3, 6 * 64)
    heads = qkv[:, 64:256].view(3, 3, 64)
    outputs, _ = interpreter(op, {"hidden_size": 64, "eps": 1e-5}, {"x": heads})
    close(outputs, expected(op, heads)[0], torch.float32)


@pytest.mark.parametrize(
    "mutation",
    [
        ("+ eps)", "+ 10 * eps)"),
        ("in_row & (col < HIDDEN)", "in_row & (col < HIDDEN - 1)"),
        ("1.0 / HIDDEN", "1.0 / BLOCK"),
        ("(1.0 + weight)", "weight"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op, given = norm(33), {"x": torch.randn(3, 33) * 0.02}
    outputs, _ = interpreter(op, {"hidden_size": 33, "eps": 1e-5}, given, replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(outputs, expected(op, **given)[0], torch.float32)


TYPES = dict.fromkeys(("x_ptr", "residual_ptr", "weight_ptr", "out_ptr", "sum_ptr"), "*bf16") | {
    name: "i32" for name in gemma_rms_norm_kernel.arg_names if name.endswith(("_outer", "_inner"))} | {"eps": "fp32"}


@pytest.mark.parametrize(("hidden", "rows", "residual"), [(4096, 1, True), (3584, 1, False), (128, 8, False)])
def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper, hidden, rows, residual):
    block = 1 << (hidden - 1).bit_length()
    constants = {"inner": 1, "HIDDEN": hidden, "BLOCK": block, "ROWS": rows, "RESIDUAL": residual, "SUM_LAST": False}
    types = {**TYPES, "rows": "i64"}
    ptx = compile_for_hopper(gemma_rms_norm_kernel, types, constants, num_warps=rows * block // 256).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx
    assert "__local_depot" not in ptx  # nothing spilled or indexed in local memory


@pytest.mark.gpu
@pytest.mark.parametrize("residual", [False, True], ids=["x", "residual"])
@pytest.mark.parametrize(
    "shape", [(1, 4096), (513, 5376), (4096, 5376), (7, 3584), (33, 2560), (9, 32, 128), (9, 16, 256), (5, 33)]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(shape, dtype, residual):
    op = norm(shape[-1], dtype).cuda()
    given = {name: value.cuda() for name, value in inputs(shape, residual, dtype).items()}
    want, total = expected(op, **given)
    with torch.inference_mode():
        outputs = op(**given)
    close(outputs[0] if residual else outputs, want, dtype)
    if residual:
        close(outputs[1], total, dtype)
