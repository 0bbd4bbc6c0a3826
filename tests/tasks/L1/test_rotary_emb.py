"""rotary_emb against complex rotation and Hugging Face's Llama, its kernel in the interpreter and compiled."""

import math

import pytest
import torch

from fastkernels.tasks.baseline.L1.rotary_emb import RotaryEmbedding, programs_a_token, rotary_emb_kernel

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


def test_dynamic_scaling_has_rows_for_the_longest_context():
    op = rotary(64, rope_scaling={"rope_type": "dynamic", "factor": 4.0})[0]
    assert op.cos_sin_cache.shape == (4 * 512, 64)


GPT_OSS = {
    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    "original_max_position_embeddings": 4096,
}  # fmt: skip
DEEPSEEK_V3 = {
    "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096,
}  # fmt: skip
DEEPSEEK_V2 = {**DEEPSEEK_V3, "mscale": 0.707, "mscale_all_dim": 0.707}
SCALINGS = {
    "gpt-oss": (GPT_OSS, 150000.0), "deepseek-v3": (DEEPSEEK_V3, 10000.0), "deepseek-v2": (DEEPSEEK_V2, 10000.0),
    "unequal mscales": ({**DEEPSEEK_V3, "mscale": 0.9, "mscale_all_dim": 0.4}, 10000.0),
    "one mscale": ({**DEEPSEEK_V3, "mscale": 0.9, "mscale_all_dim": None}, 10000.0),
    "attention factor": ({**GPT_OSS, "attention_factor": 0.5}, 1e6),
    "no betas": ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 1e6),
    "one pair between": ({**GPT_OSS, "beta_fast": 1.0, "truncate": True}, 150000.0),
    "gemma-3": ({"rope_type": "linear", "factor": 8.0}, 1e6),
    "llama-3": (LLAMA3, 5e5),
    "dynamic": ({"rope_type": "dynamic", "factor": 4.0}, 1e4),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_and_attention_factor_equal_hugging_face(name):
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling, base = SCALINGS[name]
    kind = scaling.get("rope_type", scaling.get("type"))
    parameters = {**{k: v for k, v in scaling.items() if k != "type"}, "rope_type": kind, "rope_theta": base}
    config = transformers.LlamaConfig(
        hidden_size=128, num_attention_heads=2, head_dim=64, max_position_embeddings=512, rope_parameters=parameters
    )
    longest = {"seq_len": 4 * 512} if kind == "dynamic" else {}
    inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, device="cpu", **longest)
    op = rotary(64, base=base, rope_scaling=scaling)[0]
    torch.testing.assert_close(op.inverse_frequencies(), inv_freq, atol=0, rtol=2e-6)
    angles = torch.outer(torch.arange(512.0), inv_freq)
    want = torch.cat((angles.cos(), angles.sin()), dim=-1) * factor
    torch.testing.assert_close(op.cos_sin_cache[:512], want, atol=5e-4, rtol=0)  # 1e-6 of an angle of up to 512
    assert op.cos_sin_cache[0, 0].item() == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize(
    ("key", "value"), [("factor", 39), ("beta_fast", 30), ("beta_slow", 2), ("original_max_position_embeddings", 8192)]
)
def test_every_number_of_yarn_counts(key, value):
    scaled = rotary(64, rope_scaling=GPT_OSS)[0].inverse_frequencies()
    other = rotary(64, rope_scaling={**GPT_OSS, key: value})[0].inverse_frequencies()
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(other, scaled, atol=0, rtol=1e-4)


def test_yarn_by_hand():
    """Over 32 turns in 4096 positions kept, under 1 turn divided, between them strictly between."""
    plain, scaled = (rotary(64, rope_scaling=scaling)[0].inverse_frequencies() for scaling in (None, GPT_OSS))
    ratio, turns = scaled / plain, 4096 * plain / (2 * torch.pi)
    assert (ratio[turns > 32] == 1).all()
    torch.testing.assert_close(ratio[turns < 1], torch.full_like(ratio[turns < 1], 1 / 32))
    between = ratio[(turns > 1) & (turns < 32)]
    assert len(between) > 0
    assert ((between > 1 / 32) & (between < 1)).all()


def test_deepseek_yarn_takes_one_mscale_as_vllm_does():
    one = {**DEEPSEEK_V3, "type": "deepseek_yarn", "mscale": 0.7}
    del one["mscale_all_dim"]
    op = rotary(64, rope_scaling=one)[0]
    assert op.cos_sin_cache[0, 0].item() == pytest.approx(0.1 * 0.7 * math.log(40) + 1, rel=1e-6)
    both = rotary(64, rope_scaling={**DEEPSEEK_V2, "type": "deepseek_yarn"})[0]
    assert torch.equal(both.cos_sin_cache, rotary(64, rope_scaling=DEEPSEEK_V2)[0].cos_sin_cache)


def deepseek_config(version, **more):
    transformers = pytest.importorskip("transformers")
    parameters = {k: v for k, v in DEEPSEEK_V3.items() if k != "type"}
    parameters |= {"rope_type": "yarn", "rope_theta": 1e4, "mscale": 0.9, "mscale_all_dim": 0.4}
    config = getattr(transformers, f"DeepseekV{version}Config")
    return config(hidden_size=256, num_attention_heads=4, qk_rope_head_dim=64, max_position_embeddings=8192,
                  rope_parameters=parameters, **more)  # fmt: skip


@pytest.mark.parametrize("version", [2, 3])
def test_interleaved_yarn_equals_deepseek_of_hugging_face(version):
    """V2's code rotates pairs in place, as ours; V3's also sorts them, which no product of query and key sees."""
    from importlib import import_module

    config = deepseek_config(version)
    modeling = import_module(f"transformers.models.deepseek_v{version}.modeling_deepseek_v{version}")
    reference = getattr(modeling, f"DeepseekV{version}RotaryEmbedding")(config)
    scaling = {**DEEPSEEK_V3, "mscale": 0.9, "mscale_all_dim": 0.4}
    op, _ = rotary(64, max_position_embeddings=8192, is_neox_style=False, rope_scaling=scaling)
    inputs = given(op, 5, 4, 1)
    query, key = (inputs[n].view(1, 5, -1, 64).transpose(1, 2) for n in ("query", "key"))
    turned = reference(query, inputs["positions"][None])
    got = [x.view(1, 5, -1, 64).transpose(1, 2) for x in op(**inputs)]
    if version == 2:
        for ours, theirs in zip(got, modeling.apply_rotary_emb(query, key, turned), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # 1e-6 of an angle of up to 8192
    else:
        theirs = modeling.apply_rotary_pos_emb_interleave(query, key, *turned)
        torch.testing.assert_close(got[0] @ got[1].mT, theirs[0] @ theirs[1].mT, atol=2e-2, rtol=0)


def test_slices_of_wider_heads_keep_their_shape():
    """Latent attention rotates the last 64 of 192 elements of each query, and one key for all heads."""
    op, _ = rotary(64, is_neox_style=False, rope_scaling=DEEPSEEK_V3)
    inputs = given(op, 3, 4, 1)
    wide = torch.randn(3, 4, 192)
    wide[..., 128:] = inputs["query"].view(3, 4, 64)
    query, key = op(inputs["positions"], wide[..., 128:], inputs["key"].unsqueeze(1))
    assert (query.shape, key.shape) == ((3, 4, 64), (3, 1, 64))
    want = op(**inputs)
    assert torch.equal(query.flatten(1), want[0])
    assert torch.equal(key.flatten(1), want[1])


def test_an_unknown_scaling_is_an_error():
    kinds = "default, linear, dynamic, llama3, yarn, deepseek_yarn"
    with pytest.raises(ValueError, match=f"rope_scaling.rope_type: 'longrope' is not one of {kinds}"):
        rotary(rope_scaling={"rope_type": "longrope", "factor": 4.0})


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


@pytest.mark.parametrize(
    ("tokens", "q_heads", "groups"),
    [(1, 32, 4), (1023, 4, 4), (1, 1, 1), (1024, 4, 1), (1024, 8, 1), (1024, 16, 2), (8192, 32, 4), (8192, 128, 4)],
)  # fmt: skip
def test_programs_a_token(tokens, q_heads, groups):
    assert programs_a_token(tokens, q_heads) == groups


def test_kernel_with_all_heads_in_one_program_in_the_interpreter(interpreter):
    op, init = rotary(16, 16, torch.float32)
    inputs = given(op, 3, 4, 1, torch.float32)
    few = ("MANY_TOKENS, LEAST_HEADS = 1024", "MANY_TOKENS, LEAST_HEADS = 1")
    outputs, _ = interpreter(op, init, copied(inputs), replace=(few,))
    close(outputs, op, inputs)


def test_kernel_rotates_slices_of_a_fused_projection_and_nothing_beside_them(interpreter):
    op, init = rotary()
    qkv = torch.randn(3, 8 * 64)
    query, key, _ = qkv.split([4 * 64, 2 * 64, 2 * 64], dim=-1)
    inputs = {"positions": torch.tensor([0, 5, 511]), "query": query, "key": key}
    outputs, after = interpreter(op, init, {**inputs, "positions": inputs["positions"]})
    close(outputs, op, inputs)
    assert after["query"].stride(0) == 8 * 64


def test_kernel_rotates_slices_of_wider_heads_and_nothing_beside_them(interpreter):
    op, init = rotary(64, is_neox_style=False, rope_scaling=DEEPSEEK_V3)
    inputs = given(op, 3, 4, 1)
    wide, latent = torch.randn(3, 4, 192), torch.randn(3, 576)
    sliced = {**inputs, "query": wide[..., 128:], "key": latent[:, None, 512:]}
    want = op(**sliced)
    outputs, after = interpreter(op, init, copied(sliced) | {"query": wide[..., 128:], "key": latent[:, None, 512:]})
    for got, right, name in zip(outputs, want, ("query", "key"), strict=True):
        torch.testing.assert_close(got, right, atol=1e-5, rtol=1e-5)
        assert torch.equal(got, after[name])
    assert after["query"].stride() == (4 * 192, 192, 1)
    beside = after["query"].as_strided((3, 4, 128), (4 * 192, 192, 1), 0)
    assert torch.equal(beside, wide[..., :128])


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


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 513])
@pytest.mark.parametrize("heads", [128, 16, 3])
def test_cuda_rotates_slices_of_wider_heads(tokens, heads):
    op = rotary(64, dtype=torch.bfloat16, is_neox_style=False, rope_scaling=DEEPSEEK_V3)[0].cuda()
    wide, latent = (torch.randn(tokens, *n, device="cuda").bfloat16() for n in ((heads, 192), (1, 576)))
    inputs = {"positions": torch.randint(512, (tokens,), device="cuda")}
    inputs |= {"query": wide[..., 128:], "key": latent[..., 512:]}
    want, kept = op.forward_native(**inputs), (wide[..., :128].clone(), latent[..., :512].clone())
    for got, right in zip(op(**inputs), want, strict=True):
        torch.testing.assert_close(got, right, atol=1e-2, rtol=1.6e-2)
    assert torch.equal(wide[..., :128], kept[0])
    assert torch.equal(latent[..., :512], kept[1])
