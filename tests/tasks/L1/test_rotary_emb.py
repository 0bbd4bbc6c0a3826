"""rotary_emb against complex rotation and Hugging Face's Llama, its kernel in the interpreter and compiled."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.rotary_emb import RotaryEmbedding, rotary_emb_kernel

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
TOLERANCE = {torch.bfloat16: (1e-2, 1.6e-2), torch.float16: (2e-3, 2e-3), torch.float32: (1e-5, 1e-5)}
BF16_ROUNDS_DOWN = (1e-2, 2.4e-2)  # the interpreter truncates: one more unit in the last place


def rotary(head=64, rotated=None, dtype=torch.float32, **options):
    sizes = {"head_size": head, "rotary_dim": rotated or head, "max_position_embeddings": 512}
    init = {**sizes, "base": 1e4, "dtype": dtype, **options}
    return RotaryEmbedding(**init), init


def given(op, tokens, q_heads, kv_heads, dtype=torch.float32):
    return {
        "positions": torch.randint(op.max_position_embeddings, (tokens,)),
        "query": torch.randn(tokens, q_heads * op.head_size).to(dtype),
        "key": torch.randn(tokens, kv_heads * op.head_size).to(dtype),
    }


def expected(op, positions, x):
    """Multiplication of (a + ib) by e^(i angle), with the angle's cosine and sine as the module's cache rounds them."""
    half = op.rotary_dim // 2
    heads = x.double().view(x.shape[0], -1, op.head_size).clone()
    first = slice(0, half) if op.is_neox_style else slice(0, op.rotary_dim, 2)
    second = slice(half, op.rotary_dim) if op.is_neox_style else slice(1, op.rotary_dim, 2)
    row = op.cos_sin_cache[positions].double()[:, None]
    turned = torch.complex(heads[..., first], heads[..., second]) * torch.complex(row[..., :half], row[..., half:])
    heads[..., first], heads[..., second] = turned.real, turned.imag
    return heads.view(x.shape)


def close(outputs, op, inputs, tolerance=None):
    for name, got in zip(("query", "key"), outputs, strict=True):
        atol, rtol = tolerance or TOLERANCE[inputs[name].dtype]
        assert got.dtype == inputs[name].dtype
        torch.testing.assert_close(got.double(), expected(op, inputs["positions"], inputs[name]), atol=atol, rtol=rtol)


def copied(inputs):
    return {name: value.clone() for name, value in inputs.items()}


@pytest.mark.parametrize("neox", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize(("head", "rotated"), [(64, 64), (96, 24), (128, 64)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("tokens", [1, 3])
def test_native_rotates(neox, head, rotated, dtype, tokens):
    op, _ = rotary(head, rotated, dtype, is_neox_style=neox)
    inputs = given(op, tokens, 7, 1, dtype)
    before = copied(inputs)
    outputs = op(**inputs)
    close(outputs, op, before)
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)


def test_float64_is_computed_in_float64():
    op, _ = rotary()
    op = op.double()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in given(op, 3, 2, 1).items()}
    close(op(**inputs), op, inputs, (1e-14, 1e-14))


def test_llama3_scaling_and_rotation_equal_hugging_face():
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = transformers.LlamaConfig(
        hidden_size=256, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=131072,
        rope_parameters={"rope_theta": 5e5, **LLAMA3},
    )  # fmt: skip
    op, _ = rotary(128, max_position_embeddings=9000, base=5e5, rope_scaling=LLAMA3)
    reference = LlamaRotaryEmbedding(config)
    torch.testing.assert_close(op.inverse_frequencies(), reference.inv_freq, atol=0, rtol=1e-6)
    inputs = given(op, 5, 2, 1)
    query, key = (inputs[n].view(1, 5, -1, 128).transpose(1, 2) for n in ("query", "key"))
    want = apply_rotary_pos_emb(query, key, *reference(query, inputs["positions"][None]))
    for got, reference_heads in zip(op(**inputs), want, strict=True):
        torch.testing.assert_close(got, reference_heads.transpose(1, 2).reshape(5, -1), atol=1e-5, rtol=1e-5)


def test_llama3_scaling_by_hand():
    """By wavelength: under 8192 / 4 kept, over 8192 / 1 divided by 8, between 2048 and 8192 strictly between."""
    plain, scaled = rotary(128, base=5e5)[0], rotary(128, base=5e5, rope_scaling=LLAMA3)[0]
    ratio = scaled.inverse_frequencies() / plain.inverse_frequencies()
    wavelength = 2 * torch.pi / plain.inverse_frequencies()
    assert (ratio[wavelength < 2048] == 1).all()
    torch.testing.assert_close(ratio[wavelength > 8192], torch.full_like(ratio[wavelength > 8192], 1 / 8))
    between = ratio[(wavelength > 2048) & (wavelength < 8192)]
    assert len(between) > 0
    assert ((between > 1 / 8) & (between < 1)).all()


def test_linear_scaling_divides_the_angle():
    plain, scaled = rotary()[0], rotary(rope_scaling={"type": "linear", "factor": 4.0})[0]
    torch.testing.assert_close(scaled.cos_sin_cache[::4][:128], plain.cos_sin_cache[:128])


def test_an_unknown_scaling_is_an_error():
    with pytest.raises(ValueError, match=r"rope_scaling.rope_type: 'yarn' is not one of default, linear, llama3"):
        rotary(rope_scaling={"rope_type": "yarn", "factor": 4.0})


def test_the_cache_is_rounded_to_the_modules_dtype_and_not_in_the_state_dict():
    op, _ = rotary(dtype=torch.bfloat16)
    assert op.cos_sin_cache.dtype == torch.bfloat16
    assert op.state_dict() == {}


def test_the_other_style_or_the_next_position_is_outside_the_tolerance():
    op, _ = rotary(dtype=torch.bfloat16)
    inputs = given(op, 3, 2, 1, torch.bfloat16)
    other = rotary(dtype=torch.bfloat16, is_neox_style=False)[0](**inputs)
    shifted = op(**{**inputs, "positions": (inputs["positions"] + 1) % 512})
    for wrong in (other, shifted):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(wrong, op, inputs)


@pytest.mark.parametrize("neox", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize(
    ("head", "rotated", "q_heads", "kv_heads", "dtype"),
    [(64, 64, 4, 1, torch.float32), (96, 24, 7, 2, torch.float16), (128, 128, 28, 4, torch.bfloat16)],
)
def test_kernel_in_the_interpreter(interpreter, neox, head, rotated, q_heads, kv_heads, dtype):
    op, init = rotary(head, rotated, dtype, is_neox_style=neox)
    inputs = given(op, 3, q_heads, kv_heads, dtype)
    outputs, after = interpreter(op, init, copied(inputs))
    close(outputs, op, inputs, BF16_ROUNDS_DOWN if dtype == torch.bfloat16 else None)
    assert torch.equal(outputs[0], after["query"])
    assert torch.equal(outputs[1], after["key"])


def test_kernel_rotates_slices_of_a_fused_projection_and_nothing_beside_them(interpreter):
    op, init = rotary()
    qkv = torch.randn(3, 8 * 64)
    query, key, _ = qkv.split([4 * 64, 2 * 64, 2 * 64], dim=-1)
    inputs = {"positions": torch.tensor([0, 5, 511]), "query": query, "key": key}
    outputs, after = interpreter(op, init, {**inputs, "positions": inputs["positions"]})
    close(outputs, op, inputs)
    assert after["query"].stride(0) == 8 * 64


@pytest.mark.parametrize(
    "mutation",
    [
        ("a * cos - b * sin", "a * cos + b * sin"),
        ("head < HEADS", "head < HEADS - 1"),
        ("position * (2 * HALF)", "position * HALF"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op, init = rotary()
    inputs = given(op, 3, 4, 1)
    outputs, _ = interpreter(op, init, copied(inputs), replace=(mutation,))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(outputs, op, inputs)


@pytest.mark.parametrize("neox", [True, False], ids=["neox", "interleaved"])
def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper, neox):
    types = dict.fromkeys(("query_ptr", "key_ptr", "cache_ptr"), "*bf16") | {"positions_ptr": "*i64"}
    types |= dict.fromkeys(("query_row", "query_head", "key_row", "key_head"), "i32")
    constants = {
        "Q_HEADS": 32, "KV_HEADS": 8, "HALF": 64, "HALF_BLOCK": 64, "GROUPS": 4, "Q_BLOCK": 8, "KV_BLOCK": 2,
        "NEOX": neox,
    }  # fmt: skip
    ptx = compile_for_hopper(rotary_emb_kernel, types, constants, num_warps=1).ptx
    assert "v4.b32" in ptx
    assert "__local_depot" not in ptx


@pytest.mark.gpu
@pytest.mark.parametrize("neox", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize(
    ("head", "rotated", "q_heads", "kv_heads"), [(128, 128, 32, 8), (128, 64, 28, 4), (96, 24, 4, 1)]
)
@pytest.mark.parametrize("tokens", [1, 513, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cuda_agrees(neox, head, rotated, q_heads, kv_heads, tokens, dtype):
    op = rotary(head, rotated, dtype, is_neox_style=neox)[0].cuda()
    inputs = {name: value.cuda() for name, value in given(op, tokens, q_heads, kv_heads, dtype).items()}
    given_before = copied(inputs)
    outputs = op(**inputs)
    close(outputs, op, given_before)
    assert outputs[0].data_ptr() == inputs["query"].data_ptr()
