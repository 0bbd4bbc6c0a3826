"""Multi-head latent attention of one new token a sequence over a paged latent cache, weights absorbed."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from fastkernels.runtime.jit import TensorDescriptor, gl, gluon, hopper, tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

LOG2_E = 1.0 / math.log(2.0)
HOPPER_SIZES = (512, 64)
"""Latent and rotated elements of a token that the Hopper kernel takes."""
HEADS_A_TILE = gl.constexpr(64)
"""Query heads of one program of the Hopper kernel; fewer are padded, for which a tensor core has no use."""
KEYS_A_BLOCK = gl.constexpr(64)
"""Cached tokens of one step of the Hopper kernel, and the unit in which contexts are split."""
HALF = gl.constexpr(256)
"""Latent elements of which one warpgroup of the Hopper kernel makes the output."""
ROPE = gl.constexpr(64)
"""Rotated elements in the Hopper kernel."""
STAGES = gl.constexpr(2)
"""Blocks of the cache in shared memory; a third does not fit beside the queries."""
SETUP_BLOCKS, JOIN_BLOCKS = 4, 3
"""What a program's start and end, and the joining of splits, cost in steps: decides how far contexts are split."""
COLUMNS = 128
"""Elements of a row that one program joins."""
MAX_SPLITS = 128
"""At most this many splits, so that one program can join them."""


@triton.jit(do_not_specialize=["splits", "table_row", "scale_log2e"])
def mla_decode_kernel(
    q_ptr, cache_ptr, table_ptr, used_ptr, out_ptr, part_ptr, lse_ptr, q_row, q_head, cache_page, cache_slot,
    table_row, splits, scale_log2e, HEADS: tl.constexpr, RANK: tl.constexpr, ROPE_SIZE: tl.constexpr,
    PAGE: tl.constexpr, PARTIAL: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_RANK: tl.constexpr,
    BLOCK_ROPE: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """One split of one sequence's context for BLOCK_H query heads, online softmax in float32.

    A token's latent vector is its value, and with the rotated part behind it its key, for every head. Without PARTIAL
    writes the output; else the split's own softmax output to part [B, H, splits, RANK] and the logarithm (base 2) of
    its sum to lse [B, H, splits], which mla_combine_kernel joins.
    """
    scale_log2e = tl.cast(scale_log2e, tl.float32)  # torch.compile passes float64
    tiles: tl.constexpr = (HEADS + BLOCK_H - 1) // BLOCK_H
    split = (tl.program_id(0) // tiles) % splits
    seq = tl.program_id(0) // (tiles * splits)
    used = tl.load(used_ptr + seq)
    blocks = (used + BLOCK_N - 1) // BLOCK_N
    share = (blocks + splits - 1) // splits * BLOCK_N
    first = split * share
    last = tl.minimum(first + share, used)
    head = tl.program_id(0) % tiles * BLOCK_H + tl.arange(0, BLOCK_H)
    rank, rope = tl.arange(0, BLOCK_RANK), tl.arange(0, BLOCK_ROPE)
    real = (head < HEADS)[:, None] & (rank < RANK)[None, :]
    q_at = q_ptr + seq.to(tl.int64) * q_row + head[:, None] * q_head
    q = tl.load(q_at + rank[None, :], mask=real, other=0.0)
    q_rope_mask = (head < HEADS)[:, None] & (rope < ROPE_SIZE)[None, :]
    q_rope = tl.load(q_at + RANK + rope[None, :], mask=q_rope_mask, other=0.0)
    top = tl.full([BLOCK_H], float("-inf"), tl.float32)
    total = tl.full([BLOCK_H], 0.0, tl.float32)
    acc = tl.full([BLOCK_H, BLOCK_RANK], 0.0, tl.float32)
    pages = table_ptr + seq.to(tl.int64) * table_row
    for start in range(first, last, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        inside = at < last
        page = tl.load(pages + at // PAGE, mask=inside, other=0).to(tl.int64)
        row = cache_ptr + (page * cache_page + (at % PAGE) * cache_slot)[:, None]
        latent = tl.load(row + rank[None, :], mask=inside[:, None] & (rank < RANK)[None, :], other=0.0)
        rotated = tl.load(row + RANK + rope[None, :], mask=inside[:, None] & (rope < ROPE_SIZE)[None, :], other=0.0)
        s = tl.dot(q, tl.trans(latent), input_precision="ieee")
        s = tl.dot(q_rope, tl.trans(rotated), s, input_precision="ieee") * scale_log2e
        s = tl.where(inside[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        weight = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(latent.dtype), latent, acc * fade[:, None], input_precision="ieee")
        top = new_top
    y = acc * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]
    to = seq.to(tl.int64) * HEADS + head
    if not PARTIAL:
        tl.store(out_ptr + to[:, None] * RANK + rank[None, :], y.to(out_ptr.dtype.element_ty), mask=real)
    else:
        part = to * splits + split
        tl.store(part_ptr + part[:, None] * RANK + rank[None, :], y, mask=real)
        tl.store(lse_ptr + part, top + tl.log2(tl.where(total > 0.0, total, 1.0)), mask=head < HEADS)


@triton.jit(do_not_specialize=["splits"])
def mla_combine_kernel(
    part_ptr, lse_ptr, out_ptr, splits, BLOCK_S: tl.constexpr, RANK: tl.constexpr, COLUMNS: tl.constexpr
):
    """out = sum_s 2^(lse_s - lse) part_s for COLUMNS of one row of [B * H]; zeros where every split is empty."""
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, BLOCK_S)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    lse = tl.load(lse_ptr + row * splits + split, mask=split < splits, other=float("-inf"))
    real = (split < splits)[:, None] & (column < RANK)[None, :]
    part = tl.load(part_ptr + (row * splits + split)[:, None] * RANK + column[None, :], mask=real, other=0.0)
    top = tl.max(lse, axis=0)
    weight = tl.exp2(lse - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(weight, axis=0)
    y = tl.sum(part * weight[:, None], axis=0) * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)
    tl.store(out_ptr + row * RANK + column, y.to(out_ptr.dtype.element_ty), mask=column < RANK)


@gluon.jit
def place(used_ptr, splits, TILES: gl.constexpr):
    """This program's (sequence, tile of heads, split, first block, blocks, keys in the last block)."""
    program = gl.program_id(0)
    seq = program // (TILES * splits)
    split = program // TILES % splits
    used = gl.load(used_ptr + seq)
    blocks = (used + KEYS_A_BLOCK - 1) // KEYS_A_BLOCK
    share = (blocks + splits - 1) // splits
    first = gl.minimum(split * share, blocks)
    count = gl.minimum(share, blocks - first)
    valid = gl.minimum(used - (first + count - 1) * KEYS_A_BLOCK, KEYS_A_BLOCK)
    return seq, program % TILES, split, first, count, valid


@gluon.jit
def page_numbers(pages, key, end, PAGE: gl.constexpr, PARTS: gl.constexpr, ROWS: gl.constexpr):
    """Entries of the page table for a block of PARTS pages; 0 past the sequence's end."""
    if PARTS == 1:
        return gl.load(pages + key // PAGE)
    else:
        at = key + ROWS * gl.arange(0, PARTS, layout=gl.BlockedLayout([1], [32], [1], [0]))
        return gl.load(pages + at // PAGE, mask=at < end, other=0)


@gluon.jit
def first_row(numbers, key, part: gl.constexpr, PAGE: gl.constexpr, PARTS: gl.constexpr, ROWS: gl.constexpr):
    """Row of the cache, as [pages * PAGE, width], at which this part of a block begins."""
    if PARTS == 1:
        page = numbers
    else:
        lane = gl.arange(0, PARTS, layout=gl.BlockedLayout([1], [32], [1], [0]))
        page = gl.sum(gl.where(lane == part, numbers, 0), axis=0)
    return page * PAGE + (key + part * ROWS) % PAGE


@gluon.jit
def load_latent(
    q_desc, q_rope_desc, cache_desc, rope_desc, table_ptr, used_ptr, table_row, splits, q_left, q_right, q_rope,
    k_left, k_right, k_rope, q_full, left_bars, right_bars, HEADS: gl.constexpr, PAGE: gl.constexpr,
):
    """Producer warp: copies queries, then blocks of the cache, each half of them as soon as its place is free.

    A block is KEYS_A_BLOCK tokens, read a page (or a part of one) at a time; past the sequence's end page 0 is read.
    """
    TILES: gl.constexpr = (HEADS + HEADS_A_TILE - 1) // HEADS_A_TILE
    ROWS: gl.constexpr = rope_desc.block_shape[0]
    PARTS: gl.constexpr = KEYS_A_BLOCK // ROWS
    seq, tile, _, first, count, valid = place(used_ptr, splits, TILES)
    if count > 0:
        row = seq * HEADS + tile * HEADS_A_TILE
        hopper.mbarrier.expect(q_full, HEADS_A_TILE * (2 * HALF + ROPE) * 2)
        hopper.tma.async_copy_global_to_shared(q_desc, [row, 0], q_full, q_left)
        hopper.tma.async_copy_global_to_shared(q_rope_desc, [row, 2 * HALF], q_full, q_rope)
        hopper.tma.async_copy_global_to_shared(q_desc, [row, HALF], q_full, q_right)
        pages = table_ptr + seq.to(gl.int64) * table_row
        end = (first + count - 1) * KEYS_A_BLOCK + valid
        for block in range(count):
            key = (first + block) * KEYS_A_BLOCK
            slot = block % STAGES
            free = ((block // STAGES) & 1) ^ 1
            numbers = page_numbers(pages, key, end, PAGE, PARTS, ROWS)  # asked for before the wait for the slot
            hopper.mbarrier.wait(left_bars.index(STAGES + slot), free)
            hopper.mbarrier.expect(left_bars.index(slot), KEYS_A_BLOCK * (HALF + ROPE) * 2)
            for part in gl.static_range(PARTS):
                row = first_row(numbers, key, part, PAGE, PARTS, ROWS)
                bar = left_bars.index(slot)
                left, rotated = k_left.index(slot).slice(part * ROWS, ROWS), k_rope.index(slot).slice(part * ROWS, ROWS)
                hopper.tma.async_copy_global_to_shared(cache_desc, [row, 0], bar, left)
                hopper.tma.async_copy_global_to_shared(rope_desc, [row, 2 * HALF], bar, rotated)
            hopper.mbarrier.wait(right_bars.index(STAGES + slot), free)
            hopper.mbarrier.expect(right_bars.index(slot), KEYS_A_BLOCK * HALF * 2)
            for part in gl.static_range(PARTS):
                row = first_row(numbers, key, part, PAGE, PARTS, ROWS)
                right = k_right.index(slot).slice(part * ROWS, ROWS)
                hopper.tma.async_copy_global_to_shared(cache_desc, [row, HALF], right_bars.index(slot), right)


@gluon.jit
def begin_scores(
    q_left, q_right, q_rope, k_left, k_right, k_rope, left_bars, right_bars, block, S_LAYOUT: gl.constexpr
):  # fmt: skip
    """Begin Q K^T of a block, in three products as its parts arrive."""
    slot = block % STAGES
    phase = (block // STAGES) & 1
    zeros = gl.zeros([HEADS_A_TILE, KEYS_A_BLOCK], gl.float32, S_LAYOUT)
    hopper.mbarrier.wait(left_bars.index(slot), phase)
    s = hopper.warpgroup_mma(q_left, k_left.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
    s = hopper.warpgroup_mma(q_rope, k_rope.index(slot).permute((1, 0)), s, is_async=True)
    hopper.mbarrier.wait(right_bars.index(slot), phase)
    return hopper.warpgroup_mma(q_right, k_right.index(slot).permute((1, 0)), s, is_async=True)


@gluon.jit
def weigh(s, top, total, scale_log2e):
    """Online softmax of a block: (weights, what earlier sums fade by, new top, new total)."""
    new_top = gl.maximum(top, gl.max(s, axis=1))
    base = new_top * scale_log2e
    fade = gl.exp2(top * scale_log2e - base)
    weight = gl.exp2(s * scale_log2e - base[:, None])
    return weight, fade, new_top, total * fade + gl.sum(weight, axis=1)


@gluon.jit
def hand_over(weight, fade, p_smem, fade_smem, p_bars, block):
    """Pass weights and fade on to the other warpgroup, when it is done with the last ones."""
    hopper.mbarrier.wait(p_bars.index(1), (block & 1) ^ 1)
    p_smem.store(weight)
    fade_smem.store(fade)
    hopper.fence_async_shared()
    hopper.mbarrier.arrive(p_bars.index(0))


@gluon.jit
def clear_after(values, valid):
    """Zero the rows of a block past the sequence's end: their weight is zero, but they may hold anything."""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    row = gl.arange(0, KEYS_A_BLOCK, layout=gl.SliceLayout(1, LAYOUT))
    if valid < KEYS_A_BLOCK:
        for chunk in gl.static_range(HALF // 64):
            part = values.slice(chunk * 64, 64, 1)
            kept = part.load(LAYOUT)
            part.store(gl.where((row < valid)[:, None], kept, gl.zeros_like(kept)))
        hopper.fence_async_shared()


@gluon.jit
def store_half(
    acc, out_ptr, part_ptr, seq, tile, split, splits, HEADS: gl.constexpr, PARTIAL: gl.constexpr, FIRST: gl.constexpr,
    O_LAYOUT: gl.constexpr,
):
    """Write HALF columns of the output, or of the split's part of it."""
    head = tile * HEADS_A_TILE + gl.arange(0, HEADS_A_TILE, layout=gl.SliceLayout(1, O_LAYOUT))
    column = FIRST + gl.arange(0, HALF, layout=gl.SliceLayout(0, O_LAYOUT))
    row = seq.to(gl.int64) * HEADS + head
    if PARTIAL:
        to = part_ptr + ((row * splits + split) * (2 * HALF))[:, None] + column[None, :]
        gl.store(to, acc, mask=(head < HEADS)[:, None])
    else:
        to = out_ptr + (row * (2 * HALF))[:, None] + column[None, :]
        gl.store(to, acc.to(out_ptr.dtype.element_ty), mask=(head < HEADS)[:, None])


@gluon.jit
def attend_left(
    out_ptr, part_ptr, lse_ptr, used_ptr, splits, scale_log2e, q_left, q_right, q_rope, k_left, k_right, k_rope, p_smem,
    fade_smem, q_full, left_bars, right_bars, p_bars, s_done, HEADS: gl.constexpr, PARTIAL: gl.constexpr,
):
    """First warpgroup: scores and softmax of every block, and the left half of the output.

    The scores of a block are queued behind the last block's product with the left half of its values; the other
    warpgroup takes the tensor cores with the right half while this one is at the softmax.
    """
    TILES: gl.constexpr = (HEADS + HEADS_A_TILE - 1) // HEADS_A_TILE
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS_A_BLOCK, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HALF, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    seq, tile, split, _, count, valid = place(used_ptr, splits, TILES)
    acc = gl.zeros([HEADS_A_TILE, HALF], gl.float32, O_LAYOUT)
    top = gl.full([HEADS_A_TILE], float("-inf"), gl.float32, gl.SliceLayout(1, S_LAYOUT))
    total = gl.full([HEADS_A_TILE], 0.0, gl.float32, gl.SliceLayout(1, S_LAYOUT))
    if count > 0:
        hopper.mbarrier.wait(q_full, 0)
        s = begin_scores(q_left, q_right, q_rope, k_left, k_right, k_rope, left_bars, right_bars, 0, S_LAYOUT)
        s = hopper.warpgroup_mma_wait(0, deps=[s])
        hopper.mbarrier.arrive(s_done)
        for block in range(count - 1):
            slot = block % STAGES
            weight, fade, top, total = weigh(s, top, total, scale_log2e)
            p = weight.to(q_left.dtype)
            acc = acc * gl.convert_layout(fade, ROW)[:, None]
            acc = hopper.warpgroup_mma(gl.convert_layout(p, P_LAYOUT), k_left.index(slot), acc, is_async=True)
            hand_over(p, fade, p_smem, fade_smem, p_bars, block)
            s = begin_scores(
                q_left, q_right, q_rope, k_left, k_right, k_rope, left_bars, right_bars, block + 1, S_LAYOUT
            )
            acc, s = hopper.warpgroup_mma_wait(3, deps=[acc, s])
            hopper.mbarrier.arrive(left_bars.index(STAGES + slot))
            s = hopper.warpgroup_mma_wait(0, deps=[s])
            hopper.mbarrier.arrive(s_done)
        key = gl.arange(0, KEYS_A_BLOCK, layout=gl.SliceLayout(0, S_LAYOUT))
        s = gl.where((key < valid)[None, :], s, float("-inf"))
        weight, fade, top, total = weigh(s, top, total, scale_log2e)
        p = weight.to(q_left.dtype)
        hand_over(p, fade, p_smem, fade_smem, p_bars, count - 1)
        values = k_left.index((count - 1) % STAGES)
        clear_after(values, valid)
        acc = acc * gl.convert_layout(fade, ROW)[:, None]
        acc = hopper.warpgroup_mma(gl.convert_layout(p, P_LAYOUT), values, acc, is_async=True)
        acc = hopper.warpgroup_mma_wait(0, deps=[acc])
    inverse = gl.where(total > 0.0, 1.0 / total, 0.0)
    hopper.mbarrier.wait(p_bars.index(1), (count & 1) ^ 1)
    fade_smem.store(inverse)
    hopper.mbarrier.arrive(p_bars.index(0))
    acc = acc * gl.convert_layout(inverse, ROW)[:, None]
    store_half(acc, out_ptr, part_ptr, seq, tile, split, splits, HEADS, PARTIAL, 0, O_LAYOUT)
    if PARTIAL:
        head = tile * HEADS_A_TILE + gl.arange(0, HEADS_A_TILE, layout=gl.SliceLayout(1, S_LAYOUT))
        lse = gl.where(total > 0.0, top * scale_log2e + gl.log2(total), float("-inf"))
        gl.store(lse_ptr + (seq.to(gl.int64) * HEADS + head) * splits + split, lse, mask=head < HEADS)


@gluon.jit
def attend_right(
    out_ptr, part_ptr, used_ptr, splits, k_right, p_smem, fade_smem, right_bars, p_bars, s_done, HEADS: gl.constexpr,
    PARTIAL: gl.constexpr,
):
    """Second warpgroup: the right half of the output, each block's once the next one's scores are done."""
    TILES: gl.constexpr = (HEADS + HEADS_A_TILE - 1) // HEADS_A_TILE
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HALF, 16])
    ROW: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    seq, tile, split, _, count, valid = place(used_ptr, splits, TILES)
    acc = gl.zeros([HEADS_A_TILE, HALF], gl.float32, O_LAYOUT)
    for block in range(count):
        slot = block % STAGES
        hopper.mbarrier.wait(p_bars.index(0), block & 1)
        acc = acc * fade_smem.load(ROW)[:, None]
        if block + 1 < count:
            hopper.mbarrier.wait(s_done, (block + 1) & 1)
        else:
            clear_after(k_right.index(slot), valid)
        acc = hopper.warpgroup_mma(p_smem, k_right.index(slot), acc, is_async=True)
        acc = hopper.warpgroup_mma_wait(0, deps=[acc])
        hopper.mbarrier.arrive(p_bars.index(1))
        hopper.mbarrier.arrive(right_bars.index(STAGES + slot))
    hopper.mbarrier.wait(p_bars.index(0), count & 1)
    acc = acc * fade_smem.load(ROW)[:, None]
    store_half(acc, out_ptr, part_ptr, seq, tile, split, splits, HEADS, PARTIAL, HALF, O_LAYOUT)


@gluon.jit(do_not_specialize=["table_row", "splits", "scale_log2e"])
def mla_decode_hopper_kernel(
    q_desc, q_rope_desc, cache_desc, rope_desc, table_ptr, used_ptr, out_ptr, part_ptr, lse_ptr, table_row, splits,
    scale_log2e, HEADS: gl.constexpr, PAGE: gl.constexpr, PARTIAL: gl.constexpr,
):
    """mla_decode_kernel with one warp that copies and two warpgroups that compute (after FlashMLA, DeepSeek, 2025).

    A program's 64 heads x 512 outputs fill the registers of two warpgroups, a half each. Key and value of a token are
    the same shared memory. bars: full ones first, then empty ones.
    """
    layout: gl.constexpr = hopper.mbarrier.MBarrierLayout()
    dtype: gl.constexpr = q_desc.dtype
    q_left = gl.allocate_shared_memory(dtype, [HEADS_A_TILE, HALF], q_desc.layout)
    q_right = gl.allocate_shared_memory(dtype, [HEADS_A_TILE, HALF], q_desc.layout)
    q_rope = gl.allocate_shared_memory(dtype, [HEADS_A_TILE, ROPE], q_desc.layout)
    k_left = gl.allocate_shared_memory(dtype, [STAGES, KEYS_A_BLOCK, HALF], cache_desc.layout)
    k_right = gl.allocate_shared_memory(dtype, [STAGES, KEYS_A_BLOCK, HALF], cache_desc.layout)
    k_rope = gl.allocate_shared_memory(dtype, [STAGES, KEYS_A_BLOCK, ROPE], cache_desc.layout)
    p_smem = gl.allocate_shared_memory(dtype, [HEADS_A_TILE, KEYS_A_BLOCK], q_desc.layout)
    fade_smem = gl.allocate_shared_memory(gl.float32, [HEADS_A_TILE], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    q_full = gl.allocate_shared_memory(gl.int64, [1], layout)
    left_bars = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], layout)
    right_bars = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], layout)
    p_bars = gl.allocate_shared_memory(gl.int64, [2, 1], layout)
    s_done = gl.allocate_shared_memory(gl.int64, [1], layout)
    hopper.mbarrier.init(q_full, count=1)
    hopper.mbarrier.init(s_done, count=1)
    for index in gl.static_range(2 * STAGES):
        hopper.mbarrier.init(left_bars.index(index), count=1)
        hopper.mbarrier.init(right_bars.index(index), count=1)
    for index in gl.static_range(2):
        hopper.mbarrier.init(p_bars.index(index), count=1)
    gl.warp_specialize(
        [
            (attend_left, (out_ptr, part_ptr, lse_ptr, used_ptr, splits, scale_log2e, q_left, q_right, q_rope, k_left,
                           k_right, k_rope, p_smem, fade_smem, q_full, left_bars, right_bars, p_bars, s_done, HEADS,
                           PARTIAL)),
            (attend_right, (out_ptr, part_ptr, used_ptr, splits, k_right, p_smem, fade_smem, right_bars, p_bars, s_done,
                            HEADS, PARTIAL)),
            (load_latent, (q_desc, q_rope_desc, cache_desc, rope_desc, table_ptr, used_ptr, table_row, splits, q_left,
                           q_right, q_rope, k_left, k_right, k_rope, q_full, left_bars, right_bars, HEADS, PAGE)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


@lru_cache(maxsize=1024)
def split_count(batch: int, tiles: int, max_seqlen_k: int, processors: int) -> int:
    """Splits of each context that end soonest, a program a processor at a time; known without the device."""
    blocks = max(1, -(-max_seqlen_k // KEYS_A_BLOCK.value))

    def steps(splits: int) -> int:
        waves = -(-max(1, batch) * tiles * splits // processors)
        return waves * (-(-blocks // splits) + SETUP_BLOCKS) + (JOIN_BLOCKS if splits > 1 else 0)

    return min(range(1, min(blocks, MAX_SPLITS) + 1), key=steps)


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a CUDA device; elsewhere (Triton's interpreter) 1."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def on_hopper(device: torch.device) -> bool:
    """Whether this is a Hopper GPU whose Triton has Gluon."""
    return (
        device.type == "cuda" and TensorDescriptor is not None
        and torch.cuda.get_device_capability(device) == (9, 0)
    )  # fmt: skip


def copies_by_tensor_map(query: torch.Tensor, kv_cache: torch.Tensor) -> bool:
    """Whether the copy engine can read queries [B, H, W] as rows, and the cache page by page or 64 tokens at a time."""
    page_size, width = kv_cache.shape[1:]
    return (
        width == sum(HOPPER_SIZES) and query.dtype == kv_cache.dtype and query.dtype in (torch.bfloat16, torch.float16)
        and query.numel() > 0 and kv_cache.numel() > 0 and query.is_contiguous()
        and kv_cache.stride(0) == page_size * kv_cache.stride(1) and kv_cache.stride(1) % 8 == 0
        and page_size >= 16 and (page_size & (page_size - 1) == 0 or page_size % KEYS_A_BLOCK.value == 0)
        and query.data_ptr() % 16 == 0 and kv_cache.data_ptr() % 16 == 0
    )  # fmt: skip


def launch_hopper(
    query: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, seqused_k: torch.Tensor, out: torch.Tensor,
    part: torch.Tensor, lse: torch.Tensor, splits: int, scale: float,
) -> None:  # fmt: skip
    """A program for each tile of heads of each split."""
    (batch, heads, width), (pages, page_size, _) = query.shape, kv_cache.shape
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    q_map, cache_map = ([batch * heads, width], [width, 1]), ([pages * page_size, width], [kv_cache.stride(1), 1])
    rows, half, rope = min(page_size, KEYS_A_BLOCK.value), HALF.value, ROPE.value
    mla_decode_hopper_kernel[(batch * triton.cdiv(heads, HEADS_A_TILE.value) * splits,)](
        TensorDescriptor(query, *q_map, [HEADS_A_TILE.value, half], layout),
        TensorDescriptor(query, *q_map, [HEADS_A_TILE.value, rope], layout),
        TensorDescriptor(kv_cache, *cache_map, [rows, half], layout),
        TensorDescriptor(kv_cache, *cache_map, [rows, rope], layout),
        block_table, seqused_k, out, part, lse, block_table.stride(0), splits, scale * LOG2_E, HEADS=heads,
        PAGE=page_size, PARTIAL=splits > 1, num_warps=4,
    )  # fmt: skip


def block_sizes(heads: int, element_size: int) -> tuple[int, int]:
    """Heads and tokens of the portable kernel's blocks: what fits in 99 KiB of shared memory, if not in float32."""
    return (16, 16) if element_size > 2 else (16, 32) if heads <= 64 else (32, 16)


def launch_blocks(
    query: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, seqused_k: torch.Tensor, out: torch.Tensor,
    part: torch.Tensor, lse: torch.Tensor, splits: int, scale: float,
) -> None:  # fmt: skip
    """The portable kernel, a program for each few heads of each split."""
    (batch, heads, width), rank = query.shape, out.shape[2]
    block_h, block_n = block_sizes(heads, query.element_size())
    mla_decode_kernel[(batch * triton.cdiv(heads, block_h) * splits,)](
        query, kv_cache, block_table, seqused_k, out, part, lse, *query.stride()[:2], *kv_cache.stride()[:2],
        block_table.stride(0), splits, scale * LOG2_E, HEADS=heads, RANK=rank, ROPE_SIZE=width - rank,
        PAGE=kv_cache.shape[1], PARTIAL=splits > 1, BLOCK_H=block_h, BLOCK_RANK=max(16, triton.next_power_of_2(rank)),
        BLOCK_ROPE=max(16, triton.next_power_of_2(width - rank)), BLOCK_N=block_n, num_warps=8, num_stages=2,
    )  # fmt: skip


def attend_latent(
    query: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, seqused_k: torch.Tensor, max_seqlen_k: int,
    rank: int, scale: float,
) -> torch.Tensor:  # fmt: skip
    """On Hopper the warp-specialised kernel, else, and for what it leaves, the portable one; then the joining."""
    query = query if query.stride(-1) == 1 else query.contiguous()
    kv_cache = kv_cache if kv_cache.stride(-1) == 1 else kv_cache.contiguous()
    batch, heads, _ = query.shape
    tiles = triton.cdiv(heads, HEADS_A_TILE.value)
    splits = split_count(batch, tiles, max_seqlen_k, processors(query.device))
    out = torch.empty(batch, heads, rank, dtype=query.dtype, device=query.device)
    part, lse = out, out
    if splits > 1:
        part = torch.empty(batch, heads, splits, rank, dtype=torch.float32, device=query.device)
        lse = torch.empty(batch, heads, splits, dtype=torch.float32, device=query.device)
    fits = rank == HOPPER_SIZES[0] and on_hopper(query.device) and copies_by_tensor_map(query, kv_cache)
    launch = launch_hopper if fits else launch_blocks
    if batch:
        launch(query, kv_cache, block_table, seqused_k, out, part, lse, splits, scale)
    if batch and splits > 1:
        mla_combine_kernel[(batch * heads, triton.cdiv(rank, COLUMNS))](
            part, lse, out, splits, BLOCK_S=triton.next_power_of_2(splits), RANK=rank, COLUMNS=COLUMNS, num_warps=4
        )
    return out


attend_latent_op = torch.library.custom_op(
    f"fastkernels::{__name__.replace('.', '_')}", attend_latent, mutates_args=()
)
"""For torch.compile, which cannot trace tensor maps; named after the module, since the overlay imports it twice."""


@attend_latent_op.register_fake
def like_query(
    query: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, seqused_k: torch.Tensor, max_seqlen_k: int,
    rank: int, scale: float,
) -> torch.Tensor:  # fmt: skip
    """Shape and dtype of the result."""
    del kv_cache, block_table, seqused_k, max_seqlen_k, scale
    return query.new_empty((*query.shape[:2], rank))


class MLADecode(Op):
    """softmax(scale q C^T) C_latent of one token a sequence, the latent cache in pages (DeepSeek-V2, 2024).

    query: [B, H, kv_lora_rank + qk_rope_head_dim]: W_UK^T q_nope, then the rotated q_pe; kv_cache: [pages, page_size,
    kv_lora_rank + qk_rope_head_dim], of which a token's first kv_lora_rank elements are also its value, for every head;
    block_table: [B, P] int32 (page of the sequence's tokens p * page_size ...), seqused_k: [B] int32 (tokens in the
    cache, the new one included; 0 gives rows of zeros), max_seqlen_k: at least every seqused_k -> [B, H, kv_lora_rank],
    which the caller multiplies by W_UV. Entries of block_table beyond a sequence's last page are not followed. Inputs
    are not changed. As vLLM's flash_mla_with_kvcache for one token.
    """

    provider = "triton"

    def __init__(self, num_heads: int, kv_lora_rank: int, qk_rope_head_dim: int, scale: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kv_lora_rank = kv_lora_rank
        self.qk_rope_head_dim = qk_rope_head_dim
        self.scale = scale

    def forward_native(
        self, query: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, seqused_k: torch.Tensor,
        max_seqlen_k: int,
    ) -> torch.Tensor:  # fmt: skip
        """Plain PyTorch, a sequence at a time, in float32 or better."""
        del max_seqlen_k
        wide = torch.promote_types(query.dtype, torch.float32)
        out = query.new_zeros((*query.shape[:2], self.kv_lora_rank))
        for seq, used in enumerate(seqused_k.tolist()):
            pages = block_table[seq, : -(-used // kv_cache.shape[1])].long()
            keys = kv_cache[pages].flatten(0, 1)[:used].to(wide)
            weights = torch.softmax(torch.matmul(query[seq].to(wide), keys.T) * self.scale, dim=-1)
            out[seq] = torch.matmul(weights, keys[:, : self.kv_lora_rank]).to(query.dtype)
        return out

    def forward_cuda(
        self, query: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, seqused_k: torch.Tensor,
        max_seqlen_k: int,
    ) -> torch.Tensor:  # fmt: skip
        """Split-KV: a warp-specialised Gluon kernel on Hopper, else Triton, and one that joins the splits."""
        attend = attend_latent_op if torch.compiler.is_compiling() else attend_latent
        return attend(query, kv_cache, block_table, seqused_k, max_seqlen_k, self.kv_lora_rank, self.scale)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Each used row of the cache read once for all heads, queries and outputs once; two products a key and head."""
        used, (_, page_size, width) = inputs["seqused_k"], inputs["kv_cache"].shape
        pages = int(((used + page_size - 1) // page_size).sum())
        moved = int(used.sum()) * width * inputs["kv_cache"].element_size()
        moved += pages * inputs["block_table"].element_size()
        return Work(
            bytes=moved + tensor_bytes(inputs["query"], used, *outputs),
            flops=2 * int(used.sum()) * self.num_heads * (width + self.kv_lora_rank),
        )
