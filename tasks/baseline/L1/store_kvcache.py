"""Writes of new keys and values into the paged cache."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes


@triton.jit
def store_kvcache_kernel(
    key_ptr, value_ptr, key_cache_ptr, value_cache_ptr, slots_ptr, key_row, key_head, value_row, value_head,
    key_page, key_slot, key_cache_head, value_page, value_slot, value_cache_head, page_size,
    HEADS: tl.constexpr, HEADS_BLOCK: tl.constexpr, DIM: tl.constexpr, DIM_BLOCK: tl.constexpr,
):
    """key_cache[slot // page_size, slot % page_size] = key[t] and the same for the values; one token a program."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + token)
    head, dim = tl.arange(0, HEADS_BLOCK)[:, None], tl.arange(0, DIM_BLOCK)[None, :]
    mask = (head < HEADS) & (dim < DIM)
    keys = tl.load(key_ptr + token * key_row + head * key_head + dim, mask=mask)
    values = tl.load(value_ptr + token * value_row + head * value_head + dim, mask=mask)
    page, within = slot // page_size, slot % page_size
    mask = mask & (slot >= 0)
    tl.store(key_cache_ptr + page * key_page + within * key_slot + head * key_cache_head + dim, keys, mask=mask)
    tl.store(
        value_cache_ptr + page * value_page + within * value_slot + head * value_cache_head + dim, values, mask=mask
    )


def launch_warps(elements: int) -> int:
    """Warps for one token of `elements` keys: 16 bytes of bf16 a thread."""
    return min(8, max(1, elements // 256))


class StoreKVCache(Op):
    """Writes key[t] and value[t] to slot slot_mapping[t] of the caches; slot -1 is padding and writes nothing.

    key, value: [T, Hkv, D]; key_cache, value_cache: [pages, page_size, Hkv, D], mutated; slot_mapping: [T] int64, each
    slot at most once; slot = page * page_size + offset -> None. As vLLM's reshape_and_cache_flash, layout NHD.
    """

    provider = "triton"

    def forward_native(
        self,
        key: torch.Tensor,
        value: torch.Tensor,
        key_cache: torch.Tensor,
        value_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> None:
        """Plain PyTorch: an indexed assignment of the rows that are no padding."""
        used = slot_mapping >= 0
        slots = slot_mapping[used]
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        key_cache[page, within] = key[used].to(key_cache.dtype)
        value_cache[page, within] = value[used].to(value_cache.dtype)

    def forward_cuda(
        self,
        key: torch.Tensor,
        value: torch.Tensor,
        key_cache: torch.Tensor,
        value_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> None:
        """One Triton kernel for both caches; every tensor may be strided except in D."""
        key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (key, value))
        tokens, heads, dim = key.shape
        store_kvcache_kernel[(tokens,)](
            key, value, key_cache, value_cache, slot_mapping, *key.stride()[:2], *value.stride()[:2],
            *key_cache.stride()[:3], *value_cache.stride()[:3], key_cache.shape[1], HEADS=heads,
            HEADS_BLOCK=triton.next_power_of_2(heads), DIM=dim, DIM_BLOCK=triton.next_power_of_2(dim),
            num_warps=launch_warps(heads * dim),
        )

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Slices of the fused projection; the key where it was rotated in place."""
        del inputs
        return ("key", "value")

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads and writes the keys and values that have a slot, and reads the slots; no arithmetic."""
        del outputs
        slots = inputs["slot_mapping"]
        used = int((slots >= 0).sum())
        row = tensor_bytes(inputs["key"], inputs["value"]) // max(1, slots.numel())
        return Work(bytes=2 * used * row + tensor_bytes(slots), flops=0)
