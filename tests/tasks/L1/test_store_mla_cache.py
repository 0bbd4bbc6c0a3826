"""store_mla_cache against a loop over tokens, its kernel in the interpreter and compiled, and its count of work."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.store_mla_cache import StoreMLACache, store_mla_cache_kernel


def given(tokens, rank=33, rope=8, pages=5, page_size=4, dtype=torch.float32, padded=(), device="cpu"):
    slots = torch.randperm(pages * page_size, device=device)[:tokens]
    slots[list(padded)] = -1
    shapes = {"kv_c": (tokens, rank), "k_pe": (tokens, rope), "kv_cache": (pages, page_size, rank + rope)}
    made = {name: torch.randn(shape, device=device).to(dtype) for name, shape in shapes.items()}
    return {**made, "slot_mapping": slots}


def expected(inputs):
    cache = inputs["kv_cache"].clone()
    rank = inputs["kv_c"].shape[1]
    for token, slot in enumerate(inputs["slot_mapping"].tolist()):
        if slot >= 0:
            page, within = divmod(slot, cache.shape[1])
            cache[page, within, :rank] = inputs["kv_c"][token]
            cache[page, within, rank:] = inputs["k_pe"][token].flatten()
    return cache


def check(after, want):
    assert torch.equal(after["kv_cache"], want), "cache differs"


def copied(inputs):
    return {name: value.clone() for name, value in inputs.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("tokens", "padded"), [(1, ()), (3, (1,)), (20, (0, 19)), (2, (0, 1))])
def test_native_writes_the_slots_and_nothing_else(dtype, tokens, padded):
    inputs = given(tokens, dtype=dtype, padded=padded)
    want = expected(inputs)
    assert StoreMLACache()(**inputs) is None
    check(inputs, want)


def test_keys_with_a_head_dimension_are_the_same():
    inputs = given(3)
    want = expected(inputs)
    StoreMLACache()(**{**inputs, "k_pe": inputs["k_pe"].unsqueeze(1)})
    check(inputs, want)


def test_a_slot_beside_or_a_rotated_row_is_found():
    inputs = given(3)
    want = expected(inputs)
    moved = {"slot_mapping": (inputs["slot_mapping"] + 1) % 20}
    for wrong in (moved, {"kv_c": inputs["kv_c"].roll(1, 1)}, {"k_pe": inputs["k_pe"].roll(1, 0)}):
        changed = {**copied(inputs), **wrong}
        StoreMLACache()(**changed)
        with pytest.raises(AssertionError, match="cache differs"):
            check(changed, want)


@pytest.mark.parametrize(
    ("rank", "rope", "dtype"), [(33, 8, torch.float32), (512, 64, torch.bfloat16), (64, 24, torch.float16)]
)
@pytest.mark.parametrize(("tokens", "padded"), [(1, ()), (7, (2, 6))])
def test_kernel_in_the_interpreter(interpreter, rank, rope, dtype, tokens, padded):
    inputs = given(tokens, rank, rope, dtype=dtype, padded=padded)
    outputs, after = interpreter(StoreMLACache(), {}, copied(inputs))
    assert outputs is None
    check(after, expected(inputs))


def test_kernel_takes_slices_of_a_fused_projection_and_of_pages(interpreter):
    inputs = given(5, 64, 16)
    latent, wide = torch.randn(5, 80), torch.randn(5, 9, 80)
    inputs |= {"kv_c": latent[:, :64], "k_pe": latent[:, None, 64:], "kv_cache": wide[:, :4]}
    want = expected(inputs)
    _, after = interpreter(StoreMLACache(), {}, inputs)
    check(after, want)
    StoreMLACache()(**inputs)
    check(inputs, want)


@pytest.mark.parametrize(
    "mutation",
    [
        ("(rank < RANK)", "(rank < RANK - 1)"),
        ("(slot >= 0)", "(slot > 0)"),
        ("slot % page_size", "slot % (page_size - 1)"),
        ("to + RANK + rope", "to + RANK + (rope + 1) % ROPE"),
        ("mask=token < tokens", "mask=token < tokens - 1"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    inputs = given(19)
    inputs["slot_mapping"] = torch.arange(19)
    _, after = interpreter(StoreMLACache(), {}, copied(inputs))
    check(after, expected(inputs))
    _, after = interpreter(StoreMLACache(), {}, copied(inputs), replace=(mutation,))
    with pytest.raises(AssertionError, match="cache differs"):
        check(after, expected(inputs))


def test_work_counts_slots_that_are_written():
    inputs = given(3, 32, 8, padded=(1,))
    assert StoreMLACache().work(inputs, ()).bytes == 2 * 2 * (40 * 4) + 3 * 8


def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper):
    names = store_mla_cache_kernel.arg_names
    types = dict.fromkeys(names, "i32") | {name: "*bf16" for name in names if name.endswith("_ptr")}
    constants = {"RANK": 512, "RANK_BLOCK": 512, "ROPE": 64, "ROPE_BLOCK": 64, "TOKENS": 2}
    ptx = compile_for_hopper(store_mla_cache_kernel, types | {"slots_ptr": "*i64"}, constants, num_warps=4).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


@pytest.mark.gpu
@pytest.mark.parametrize(("rank", "rope"), [(512, 64), (33, 8)])
@pytest.mark.parametrize(("tokens", "padded"), [(1, ()), (513, (0, 7, 512)), (4096, ())])
def test_cuda_agrees(rank, rope, tokens, padded):
    inputs = given(tokens, rank, rope, 128, 64, torch.bfloat16, padded, "cuda")
    want = expected(inputs)
    StoreMLACache()(**inputs)
    check(inputs, want)
