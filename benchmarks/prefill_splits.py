#!/usr/bin/env python3
"""Prefill attention of a chunk after its context, few heads: each tile's keys whole and in 2, 4 and 8 splits.

Usage: PYTHONPATH=. python3 benchmarks/prefill_splits.py > FILE     (CUDA, Hopper; half a minute)

A row: query and KV heads, new tokens, keys, the splits that the operator chooses, then microseconds for each number of
splits (median of 20 replays of a graph of one call, the kernel that joins the splits included, 120 MB written before
each).
"""

import torch
import triton
from device_time import replay_us  # beside this script, so on sys.path

from fastkernels.tasks.baseline.L1 import flash_attn_prefill as prefill

DIM = 128
HEADS = ((4, 1), (8, 1), (16, 2), (32, 8))
TOKENS = (128, 512, 2048)
CONTEXTS = (0, 1024, 4096, 16384)
SPLITS = (1, 2, 4, 8)


def main() -> None:
    """Print a row for each chunk."""
    torch.manual_seed(0)
    for heads, kv_heads in HEADS:
        for tokens in TOKENS:
            for context in CONTEXTS:
                print(row(heads, kv_heads, tokens, tokens + context), flush=True)


def row(heads: int, kv_heads: int, tokens: int, keys: int) -> str:
    """Times of one chunk, and the number of splits chosen for it."""
    query = torch.randn(tokens, heads, DIM, device="cuda", dtype=torch.bfloat16)
    key, value = (torch.randn(keys, kv_heads, DIM, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    cu_q, cu_k = (torch.tensor([0, length], dtype=torch.int32, device="cuda") for length in (tokens, keys))
    out, scale = torch.empty_like(query), DIM**-0.5
    times = []
    for splits in SPLITS:
        times.append(replay_us(lambda splits=splits: prefill.launch_hopper(
            query, key, value, out, cu_q, cu_k, (tokens, keys), scale, None, 0, splits,
        )))  # fmt: skip
    tiles = triton.cdiv(tokens, prefill.TILE.value) * heads
    chosen = prefill.split_count(tiles, triton.cdiv(keys, 128), prefill.hopper_processors(query.device))
    measured = ", ".join(f"{splits}: {us:.1f}" for splits, us in zip(SPLITS, times, strict=True))
    return f"{heads} {kv_heads} {tokens} {keys} chosen {chosen} us {measured}"


if __name__ == "__main__":
    main()
