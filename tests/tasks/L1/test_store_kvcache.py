"""store_kvcache against a loop over tokens, its kernel in the interpreter and compiled, and its count of work."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.store_kvcache import StoreKVCache, store_kvcache_kernel


def given(tokens, heads=2, dim=33, pages=5, page_size=4, dtype=torch.float32, padded=(), device="cpu"):
    slots = torch.randperm(pages * page_size, device=device)[:tokens]
    slots[list(padded)] = -1
    shapes = {"key": (tokens, heads, dim), "value": (tokens, heads, dim)}
    shapes |= dict.fromkeys(("key_cache", "value_cache"), (pages, page_size, heads, dim))
    made = {name: torch.randn(shape, device=device).to(dtype) for name, shape in shapes.items()}
    return {**made, "slot_mapping": slots}


def expected(inputs):
    key_cache, value_cache = inputs["key_cache"].clone(), inputs["value_cache"].clone()
    page_size = key_cache.shape[1]
    for token, slot in enumerate(inputs["slot_mapping"].tolist()):
        if slot >= 0:
            page, within = divmod(slot, page_size)
            key_cache[page, within] = inputs["key"][token]
            value_cache[page, within] = inputs["value"][token]
    return key_cache, value_cache


def check(after, want):
    assert torch.equal(after["key_cache"], want[0]), "key cache differs"
    assert torch.equal(after["value_cache"], want[1]), "value cache differs"


def copied(inputs):
    return {name: value.clone() for name, value in inputs.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("tokens", "padded"), [(1, ()), (3, (1,)), (20, (0, 19)), (2, (0, 1))])
def test_native_writes_the_slots_and_nothing_else(dtype, tokens, padded):
    inputs = given(tokens, dtype=dtype, padded=padded)
    want = expected(inputs)
    assert StoreKVCache()(**inputs) is None
    check(inputs, want)


def test_a_slot_beside_or_a_swapped_cache_is_found():
    inputs = given(3)
    want = expected(inputs)
    swapped = {"key": inputs["value"], "value": inputs["key"]}
    for wrong in ({"slot_mapping": (inputs["slot_mapping"] + 1) % 20}, swapped):
        changed = {**copied(inputs), **wrong}
        StoreKVCache()(**changed)
        with pytest.raises(AssertionError, match="cache differs"):
            check(changed, want)


@pytest.mark.parametrize(
    ("heads", "dim", "dtype"), [(2, 33, torch.float32), (1, 128, torch.bfloat16), (3, 64, torch.float16)]
)
@pytest.mark.parametrize(("tokens", "padded"), [(1, ()), (7, (2, 6))])
def test_kernel_in_the_interpreter(interpreter, heads, dim, dtype, tokens, padded):
    inputs = given(tokens, heads, dim, dtype=dtype, padded=padded)
    outputs, after = interpreter(StoreKVCache(), {}, copied(inputs))
    assert outputs is None
    check(after, expected(inputs))


def test_kernel_takes_slices_of_a_fused_projection_and_caches_interleaved_by_page(interpreter):
    inputs = given(5, dim=64)
    qkv = torch.randn(5, 8, 64)
    both = torch.randn(5, 2, 4, 2, 64)
    inputs |= {"key": qkv[:, 4:6], "value": qkv[:, 6:], "key_cache": both[:, 0], "value_cache": both[:, 1]}
    want = expected(inputs)
    _, after = interpreter(StoreKVCache(), {}, inputs)
    check(after, want)
    StoreKVCache()(**inputs)
    check(inputs, want)


@pytest.mark.parametrize(
    "mutation",
    [("dim < DIM)", "dim < DIM - 1)"), ("(slot >= 0)", "(slot > 0)"), ("% page_size", "% (page_size - 1)")],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    inputs = given(20)
    inputs["slot_mapping"] = torch.arange(20)
    _, after = interpreter(StoreKVCache(), {}, copied(inputs), replace=(mutation,))
    with pytest.raises(AssertionError, match="cache differs"):
        check(after, expected(inputs))


def test_work_counts_slots_that_are_written():
    inputs = given(3, dim=32, padded=(1,))
    assert StoreKVCache().work(inputs, ()).bytes == 2 * 2 * (2 * 2 * 32 * 4) + 3 * 8


def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper):
    names = store_kvcache_kernel.arg_names
    types = dict.fromkeys(names, "i32") | {name: "*bf16" for name in names if name.endswith("_ptr")}
    constants = {"HEADS": 8, "HEADS_BLOCK": 8, "DIM": 128, "DIM_BLOCK": 128}
    ptx = compile_for_hopper(store_kvcache_kernel, types | {"slots_ptr": "*i64"}, constants, num_warps=4).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "dim"), [(8, 128), (1, 128), (3, 33)])
@pytest.mark.parametrize(("tokens", "padded"), [(1, ()), (513, (0, 7, 512))])
def test_cuda_agrees(heads, dim, tokens, padded):
    inputs = given(tokens, heads, dim, 64, 16, torch.bfloat16, padded, "cuda")
    want = expected(inputs)
    StoreKVCache()(**inputs)
    check(inputs, want)
