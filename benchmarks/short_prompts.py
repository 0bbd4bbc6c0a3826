#!/usr/bin/env python3
"""Prefill attention of packed short prompts: the Hopper kernel beside the portable one, from which each is chosen.

Usage: PYTHONPATH=. python3 benchmarks/short_prompts.py > FILE     (CUDA, Hopper; half a minute)

A row is one batch of random lengths: query and KV heads, tokens, prompts, the longest prompt, then microseconds (median
of 20 replays of a graph of one call, 120 MB written before each) of the Hopper kernel and of the portable one by (heads
that share a tile, rows of a tile, warps, stages). The operator launches the portable kernel with all heads of a group
in tiles of 64 rows, 4 warps and 2 stages.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import triton
from device_time import replay_us  # beside this script, so on sys.path

from fastkernels.tasks.baseline.L1 import flash_attn_prefill as prefill

DIM = 128
HEADS = ((32, 8), (64, 8), (8, 1), (16, 2))
BATCHES = ((512, 8), (1024, 8), (2048, 8), (4096, 8), (512, 4), (512, 1), (2048, 1))
"""(tokens, prompts)."""
TRIALS = 3
TILES = ((64, 4, 2), (64, 4, 3), (128, 8, 2), (128, 4, 2))
"""(rows, warps, stages)."""


def main() -> None:
    """Print a row for each batch."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    for heads, kv_heads in HEADS:
        for tokens, prompts in BATCHES:
            for _ in range(TRIALS):
                print(row(heads, kv_heads, tokens, ends(tokens, prompts, generator)), flush=True)


def ends(tokens: int, prompts: int, generator: torch.Generator) -> list[int]:
    """0 and the end of each prompt."""
    cuts = (torch.randperm(tokens - 1, generator=generator)[:prompts - 1].sort().values + 1).tolist()
    return [0, *cuts, tokens]


def row(heads: int, kv_heads: int, tokens: int, cu_seqlens: list[int]) -> str:
    """Times of both kernels on one batch."""
    longest = max(end - start for start, end in pairwise(cu_seqlens))
    query = torch.randn(tokens, heads, DIM, device="cuda", dtype=torch.bfloat16)
    key, value = (torch.randn(tokens, kv_heads, DIM, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out, cu = torch.empty_like(query), torch.tensor(cu_seqlens, dtype=torch.int32, device="cuda")
    lengths = (longest, longest)
    hopper = replay_us(lambda: prefill.launch_hopper(query, key, value, out, cu, cu, lengths, DIM**-0.5, None, 0))

    def portable(pack: int, block: int, warps: int, stages: int) -> Callable[[], None]:
        levels, prompts = triton.cdiv(longest, block // pack), len(cu_seqlens) - 1
        return lambda: prefill.flash_attn_prefill_kernel[(prompts * heads // pack, levels)](
            query, key, value, None, out, cu, cu, *query.stride()[:2], *key.stride()[:2], *value.stride()[:2], levels,
            DIM**-0.5 * prefill.LOG2_E.value, HEADS=heads, GROUP=heads // kv_heads, PACK=pack, D=DIM, DV=DIM,
            BLOCK_D=DIM, BLOCK_DV=DIM, BLOCK_M=block, BLOCK_N=64, WINDOW=0, num_warps=warps, num_stages=stages,
        )

    choices = [(pack, *tile) for pack in (1, heads // kv_heads) for tile in TILES]
    others = [(choice, round(replay_us(portable(*choice)), 1)) for choice in choices]
    return (f"{heads} {kv_heads} {tokens} {len(cu_seqlens) - 1} max {longest} hopper {hopper:.1f} portable {others}")


if __name__ == "__main__":
    main()
