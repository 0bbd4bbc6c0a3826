"""Writes of new latent vectors and rotated keys into the paged cache of multi-head latent attention."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

TOKENS = 2
"""Tokens a program."""


@triton.jit(do_not_specialize=["tokens"])
def store_mla_cache_kernel(
    kv_c_ptr, k_pe_ptr, cache_ptr, slots_ptr, kv_c_row, k_pe_row, cache_page, cache_slot, page_size, tokens,
    RANK: tl.constexpr, RANK_BLOCK: tl.constexpr, ROPE: tl.constexpr, ROPE_BLOCK: tl.constexpr, TOKENS: tl.constexpr,
):
    """cache[slot // page_size, slot % page_size] = (kv_c[t], k_pe[t]); TOKENS tokens a program."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    slot = tl.load(slots_ptr + token, mask=token < tokens, other=-1)
    at, rank, rope = token.to(tl.int64)[:, None], tl.arange(0, RANK_BLOCK)[None, :], tl.arange(0, ROPE_BLOCK)[None, :]
    written = (slot >= 0)[:, None]
    latent = tl.load(kv_c_ptr + at * kv_c_row + rank, mask=written & (rank < RANK))
    key = tl.load(k_pe_ptr + at * k_pe_row + rope, mask=written & (rope < ROPE))
    to = cache_ptr + (slot // page_size * cache_page + slot % page_size * cache_slot)[:, None]
    tl.store(to + rank, latent, mask=written & (rank < RANK))
    tl.store(to + RANK + rope, key, mask=written & (rope < ROPE))


class StoreMLACache(Op):
    """Writes (kv_c[t], k_pe[t]) to slot slot_mapping[t] of the latent cache; slot -1 is padding and writes nothing.

    kv_c: [T, kv_lora_rank], normalised; k_pe: [T, rope] or [T, 1, rope], rotated; kv_cache: [pages, page_size,
    kv_lora_rank + rope], mutated; slot_mapping: [T] int64, each slot at most once; slot = page * page_size + offset
    -> None. As vLLM's concat_and_cache_mla with an unquantized cache.
    """

    provider = "triton"

    def forward_native(
        self, kv_c: torch.Tensor, k_pe: torch.Tensor, kv_cache: torch.Tensor, slot_mapping: torch.Tensor
    ) -> None:
        """Plain PyTorch: an indexed assignment of the rows that are no padding."""
        used = slot_mapping >= 0
        slots = slot_mapping[used]
        page, within = slots // kv_cache.shape[1], slots % kv_cache.shape[1]
        rows = torch.cat((kv_c[used], k_pe.flatten(1)[used]), dim=-1)
        kv_cache[page, within] = rows.to(kv_cache.dtype)

    def forward_cuda(
        self, kv_c: torch.Tensor, k_pe: torch.Tensor, kv_cache: torch.Tensor, slot_mapping: torch.Tensor
    ) -> None:
        """One Triton kernel; every tensor may be strided except in its last dimension."""
        k_pe = k_pe.squeeze(1) if k_pe.dim() == 3 else k_pe
        kv_c, k_pe = (x if x.stride(-1) == 1 else x.contiguous() for x in (kv_c, k_pe))
        (tokens, rank), rope = kv_c.shape, k_pe.shape[1]
        store_mla_cache_kernel[(triton.cdiv(tokens, TOKENS),)](
            kv_c, k_pe, kv_cache, slot_mapping, kv_c.stride(0), k_pe.stride(0), *kv_cache.stride()[:2],
            kv_cache.shape[1], tokens, RANK=rank, RANK_BLOCK=triton.next_power_of_2(rank), ROPE=rope,
            ROPE_BLOCK=triton.next_power_of_2(rope), TOKENS=TOKENS, num_warps=4,
        )  # fmt: skip

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """A slice of the latent projection, rotated in place."""
        del inputs
        return ("k_pe",)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads and writes the rows that have a slot, and reads the slots; no arithmetic."""
        del outputs
        slots = inputs["slot_mapping"]
        used = int((slots >= 0).sum())
        row = tensor_bytes(inputs["kv_c"], inputs["k_pe"]) // max(1, slots.numel())
        return Work(bytes=2 * used * row + tensor_bytes(slots), flops=0)
