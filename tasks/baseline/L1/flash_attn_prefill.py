"""Causal attention of prompts that are packed without padding; with a window, sinks and a soft cap where asked for."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import TensorDescriptor, gl, gluon, hopper, tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

LOG2_E = tl.constexpr(1.0 / math.log(2.0))
SCORES = 2**25
"""Scores that the native path holds at once."""
HOPPER_HEAD_SIZES = {(64, 64): 128, (128, 128): 128, (192, 128): 128, (256, 256): 64}
"""Sizes of (queries and keys, values) that the Hopper kernel takes, and the keys of a block there."""
HOPPER_SEQUENCES = 4096
"""The Hopper kernel looks through the lengths of this many sequences at most."""
TILE = gl.constexpr(128)
"""Query rows of a tile in the Hopper kernel."""
SHORT_TILES = 4
"""Tiles of the longest prompt, at most, in batches of prompts that count as short."""
HALF = gl.constexpr(64)
"""Rows of a tile that one warpgroup holds."""
STAGES = gl.constexpr(2)
"""Key blocks, and value blocks, in shared memory."""
SPLIT_BLOCKS = 3
"""Key blocks of a split of the longest sequence, at least."""
MAX_SPLITS = 8
"""Splits of a tile's keys at most; they are powers of two, each a kernel of its own."""
JOINED_ROWS = 16
"""Rows of one head that a program joins."""


@triton.jit
def cap_scores(s, CAP: tl.constexpr):
    """CAP tanh(s / CAP), all of it in base 2: within 3e-7 CAP."""
    return CAP * (1.0 - 2.0 / (1.0 + tl.exp2(s * (2.0 * LOG2_E / CAP))))


@triton.jit(do_not_specialize=["levels", "scale_log2e"])
def flash_attn_prefill_kernel(
    q_ptr, k_ptr, v_ptr, sinks_ptr, out_ptr, cu_q_ptr, cu_k_ptr, q_row, q_head, k_row, k_head, v_row, v_head, levels,
    scale_log2e, HEADS: tl.constexpr, GROUP: tl.constexpr, PACK: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOW: tl.constexpr,
    CAP: tl.constexpr,
):
    """BLOCK_M query rows, each token's in PACK heads of one group; online softmax in float32.

    (FlashAttention-2, Dao, 2023.) Programs start with the rows that see the most keys. Key blocks wholly before the
    diagonal need no mask, but for a WINDOW (0: none), whose first block is the first that any of the rows sees. CAP:
    soft cap times log2(e), 0: none.
    """
    scale_log2e = tl.cast(scale_log2e, tl.float32)  # torch.compile passes float64
    pack = tl.program_id(0) % (HEADS // PACK)
    seq = tl.program_id(0) // (HEADS // PACK)
    low_row = (levels - 1 - tl.program_id(1)) * (BLOCK_M // PACK)
    q_begin = tl.load(cu_q_ptr + seq)
    q_len = tl.load(cu_q_ptr + seq + 1) - q_begin
    k_begin = tl.load(cu_k_ptr + seq)
    k_len = tl.load(cu_k_ptr + seq + 1) - k_begin
    if low_row >= q_len:
        return
    shift = k_len - q_len
    row = low_row + tl.arange(0, BLOCK_M) // PACK
    head = pack * PACK + tl.arange(0, BLOCK_M) % PACK
    dim, dim_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    in_dim, in_dim_v = (dim < D)[None, :], (dim_v < DV)[None, :]
    in_row = (row < q_len)[:, None]
    q_at = (q_begin + row).to(tl.int64)[:, None]
    q = tl.load(q_ptr + q_at * q_row + head[:, None] * q_head + dim[None, :], mask=in_row & in_dim, other=0.0)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.full([BLOCK_M], 0.0, tl.float32)
    acc = tl.full([BLOCK_M, BLOCK_DV], 0.0, tl.float32)
    k_base = k_ptr + k_begin.to(tl.int64) * k_row + pack * PACK // GROUP * k_head + dim[None, :]
    v_base = v_ptr + k_begin.to(tl.int64) * v_row + pack * PACK // GROUP * v_head + dim_v[None, :]
    seen = tl.minimum(k_len, low_row + BLOCK_M // PACK + shift)
    if WINDOW > 0:
        first = tl.maximum(low_row + shift + 1 - WINDOW, 0) // BLOCK_N * BLOCK_N
        whole = first
    else:
        first = 0
        whole = tl.minimum(tl.maximum(low_row + shift + 1, 0), k_len) // BLOCK_N * BLOCK_N
    for start in range(first, whole, BLOCK_N):
        at = (start + tl.arange(0, BLOCK_N)).to(tl.int64)[:, None]
        k = tl.load(k_base + at * k_row, mask=in_dim, other=0.0)
        v = tl.load(v_base + at * v_row, mask=in_dim_v, other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2e
        if CAP > 0:
            s = cap_scores(s, CAP)
        new_top = tl.maximum(top, tl.max(s, axis=1))
        weight = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top
    for start in range(whole, seen, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        at = column.to(tl.int64)[:, None]
        in_key = (column < k_len)[:, None]
        k = tl.load(k_base + at * k_row, mask=in_key & in_dim, other=0.0)
        v = tl.load(v_base + at * v_row, mask=in_key & in_dim_v, other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2e
        if CAP > 0:
            s = cap_scores(s, CAP)
        # A row that is stored sees no key past the sequence.
        seen_by_row = column[None, :] <= row[:, None] + shift
        if WINDOW > 0:
            seen_by_row = seen_by_row & (column[None, :] > row[:, None] + shift - WINDOW)
        s = tl.where(seen_by_row, s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(s - base[:, None])
        fade = tl.exp2(top - base)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top
    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + head).to(tl.float32) * LOG2_E
        total += tl.exp2(sink - tl.where(top == float("-inf"), 0.0, top))
    y = acc * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]
    to = out_ptr + q_at * (HEADS * DV) + head[:, None] * DV + dim_v[None, :]
    tl.store(to, y.to(out_ptr.dtype.element_ty), mask=in_row & in_dim_v)


@triton.jit(do_not_specialize=["rows"])
def join_splits_kernel(
    part_ptr, lse_ptr, sinks_ptr, out_ptr, rows, HEADS: tl.constexpr, SPLITS: tl.constexpr, DV: tl.constexpr,
    BLOCK_DV: tl.constexpr, BLOCK_R: tl.constexpr,
):
    """out [rows, HEADS, DV] = sum_s 2^(lse_s - lse) part_s, BLOCK_R rows of one head.

    part: [rows, SPLITS, HEADS, DV], lse: [rows, SPLITS, HEADS] in base 2; -inf marks a split that sees no key. Zeros
    where no split does. A sink adds its exponential to the denominator.
    """
    head = tl.program_id(0) % HEADS
    row = tl.program_id(0) // HEADS * BLOCK_R + tl.arange(0, BLOCK_R)
    dim = tl.arange(0, BLOCK_DV)
    inside = row < rows
    real = inside[:, None] & (dim < DV)[None, :]
    first = row.to(tl.int64) * (SPLITS * HEADS) + head
    top = tl.full([BLOCK_R], float("-inf"), tl.float32)
    for split in tl.static_range(SPLITS):
        top = tl.maximum(top, tl.load(lse_ptr + first + split * HEADS, mask=inside, other=float("-inf")))
    base = tl.where(top == float("-inf"), 0.0, top)
    total = tl.full([BLOCK_R], 0.0, tl.float32)
    if sinks_ptr is not None:
        total += tl.exp2(tl.load(sinks_ptr + head).to(tl.float32) * LOG2_E - base)
    acc = tl.full([BLOCK_R, BLOCK_DV], 0.0, tl.float32)
    for split in tl.static_range(SPLITS):
        at = first + split * HEADS
        weight = tl.exp2(tl.load(lse_ptr + at, mask=inside, other=float("-inf")) - base)
        total += weight
        acc += tl.load(part_ptr + at[:, None] * DV + dim[None, :], mask=real, other=0.0) * weight[:, None]
    y = acc * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]
    to = out_ptr + (row.to(tl.int64) * HEADS + head)[:, None] * DV + dim[None, :]
    tl.store(to, y.to(out_ptr.dtype.element_ty), mask=real)


@gluon.jit
def add(a, b):
    """For the scan in locate_tile."""
    return a + b


@gluon.jit
def tiles_of_sequences(cu_q_ptr, batch, BLOCK_B: gl.constexpr):
    """Tiles of query rows in each sequence, [BLOCK_B]."""
    lanes: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    seq = gl.arange(0, BLOCK_B, layout=lanes)
    begin = gl.load(cu_q_ptr + seq, mask=seq < batch, other=0)
    end = gl.load(cu_q_ptr + seq + 1, mask=seq < batch, other=0)
    return (end - begin + TILE - 1) // TILE


@gluon.jit
def count_tiles(cu_q_ptr, batch, COLUMNS: gl.constexpr, BLOCK_B: gl.constexpr):
    """Tiles of all sequences, in COLUMNS heads and splits."""
    if BLOCK_B == 1:
        return (gl.load(cu_q_ptr + 1) - gl.load(cu_q_ptr) + TILE - 1) // TILE * COLUMNS
    else:
        return gl.sum(tiles_of_sequences(cu_q_ptr, batch, BLOCK_B), axis=0) * COLUMNS


@gluon.jit
def locate_tile(
    step, total, cu_q_ptr, cu_k_ptr, batch, level_bits, HEADS: gl.constexpr, SPLITS: gl.constexpr,
    BLOCK_B: gl.constexpr, BLOCK_N: gl.constexpr, WINDOW: gl.constexpr,
):  # fmt: skip
    """This program's tile, its column (split * HEADS + head) and its first key block and the end of them.

    (exists, column, q_begin, q_len, k_begin, k_len, first row, first key block, end of blocks.) Tiles are ordered by
    falling level (place in the sequence, hence cost), then sequence, then column, and dealt out back and forth, so that
    every program's tiles cost about the same; the last round, which may not go around, starts with the program whose
    first tile was the lightest.
    """
    programs = gl.num_programs(0)
    program = gl.program_id(0)
    forth = (step % 2 == 0) & (step < (total - 1) // programs)
    tile = step * programs + gl.where(forth, program, programs - 1 - program)
    exists = tile < total
    tile = gl.minimum(tile, total - 1)
    rank = tile // (HEADS * SPLITS)
    if BLOCK_B == 1:
        level = total // (HEADS * SPLITS) - 1 - rank
        seq = 0
    else:
        tiles = tiles_of_sequences(cu_q_ptr, batch, BLOCK_B)
        level = 0
        for bit in range(level_bits):
            higher = level + (1 << (level_bits - 1 - bit))
            level = gl.where(gl.sum(gl.maximum(tiles - higher, 0), axis=0) > rank, higher, level)
        within = rank - gl.sum(gl.maximum(tiles - level - 1, 0), axis=0)
        place = gl.associative_scan((tiles > level).to(gl.int32), 0, add)
        seq = gl.sum((place <= within).to(gl.int32), axis=0)
    q_begin = gl.load(cu_q_ptr + seq)
    q_len = gl.load(cu_q_ptr + seq + 1) - q_begin
    k_begin = gl.load(cu_k_ptr + seq)
    k_len = gl.load(cu_k_ptr + seq + 1) - k_begin
    seen = gl.minimum(k_len, level * TILE + TILE + k_len - q_len)
    lowest = 0
    if WINDOW > 0:
        lowest = gl.maximum(level * TILE + k_len - q_len + 1 - WINDOW, 0) // BLOCK_N
    column = tile % (HEADS * SPLITS)
    blocks = gl.maximum(seen + BLOCK_N - 1, 0) // BLOCK_N
    if SPLITS > 1:
        share = (blocks - lowest + SPLITS - 1) // SPLITS
        lowest += column // HEADS * share
        blocks = gl.minimum(blocks, lowest + share)
    return exists, column, q_begin, q_len, k_begin, k_len, level * TILE, lowest, blocks


@gluon.jit
def load_tiles(
    q_desc, k_desc, v_desc, q_rest_desc, k_rest_desc, cu_q_ptr, cu_k_ptr, batch, level_bits, q_smem, k_smem, v_smem,
    q_rest_smem, k_rest_smem, q_bars, k_bars, v_bars, HEADS: gl.constexpr, GROUP: gl.constexpr, D: gl.constexpr,
    REST: gl.constexpr, DV: gl.constexpr, Q_HEAD: gl.constexpr, K_HEAD: gl.constexpr, V_HEAD: gl.constexpr,
    SPLITS: gl.constexpr, BLOCK_B: gl.constexpr, BLOCK_N: gl.constexpr, WINDOW: gl.constexpr,
):
    """Producer warp: copies queries, then blocks of keys and values from the diagonal back to the first."""
    total = count_tiles(cu_q_ptr, batch, HEADS * SPLITS, BLOCK_B)
    tile = 0
    block = 0
    for step in range((total + gl.num_programs(0) - 1) // gl.num_programs(0)):
        exists, head, q_begin, _, k_begin, _, row, lowest, blocks = locate_tile(
            step, total, cu_q_ptr, cu_k_ptr, batch, level_bits, HEADS, SPLITS, BLOCK_B, BLOCK_N, WINDOW
        )
        head = head % HEADS
        if exists and blocks > lowest:
            hopper.mbarrier.wait(q_bars.index(1), (tile & 1) ^ 1)
            hopper.mbarrier.expect(q_bars.index(0), TILE * (D + REST) * 2)
            for half in gl.static_range(2):
                at = [q_begin + row + half * HALF, head * Q_HEAD]
                hopper.tma.async_copy_global_to_shared(q_desc, at, q_bars.index(0), q_smem.index(half))
                if REST > 0:
                    at = [q_begin + row + half * HALF, head * Q_HEAD + D]
                    hopper.tma.async_copy_global_to_shared(q_rest_desc, at, q_bars.index(0), q_rest_smem.index(half))
            tile += 1
            for back in range(blocks - lowest):
                key = k_begin + (blocks - 1 - back) * BLOCK_N
                column = head // GROUP * K_HEAD
                slot = block % STAGES
                free = ((block // STAGES) & 1) ^ 1
                hopper.mbarrier.wait(k_bars.index(STAGES + slot), free)
                hopper.mbarrier.expect(k_bars.index(slot), BLOCK_N * (D + REST) * 2)
                hopper.tma.async_copy_global_to_shared(k_desc, [key, column], k_bars.index(slot), k_smem.index(slot))
                if REST > 0:
                    hopper.tma.async_copy_global_to_shared(
                        k_rest_desc, [key, column + D], k_bars.index(slot), k_rest_smem.index(slot)
                    )
                hopper.mbarrier.wait(v_bars.index(STAGES + slot), free)
                hopper.mbarrier.expect(v_bars.index(slot), BLOCK_N * DV * 2)
                column = head // GROUP * V_HEAD
                hopper.tma.async_copy_global_to_shared(v_desc, [key, column], v_bars.index(slot), v_smem.index(slot))
                block += 1


@gluon.jit
def sums_in_thread(weight):
    """[HALF, BLOCK_N] -> [HALF, 4]: each thread sums what it holds of a row; the four meet once a tile."""
    return gl.sum(gl.sum(gl.reshape(weight, [HALF, weight.shape[1] // 8, 4, 2]), axis=3), axis=1)


@gluon.jit
def hide(scores, keys, last, WINDOW: gl.constexpr):
    """-inf where a key comes after the last that its row sees, or WINDOW or more before it.

    The last is in the sequence for every row that is stored.
    """
    seen = keys[None, :] <= last[:, None]
    if WINDOW > 0:
        seen = seen & (keys[None, :] > last[:, None] - WINDOW)
    return gl.where(seen, scores, float("-inf"))


@gluon.jit
def score_block(
    q, k_smem, q_rest, k_rest_smem, slot, BLOCK_N: gl.constexpr, S_LAYOUT: gl.constexpr, REST: gl.constexpr
):  # fmt: skip
    """Begin Q K^T of the keys in this slot; wide heads come in two parts."""
    zeros = gl.zeros([HALF, BLOCK_N], gl.float32, S_LAYOUT)
    s = hopper.warpgroup_mma(q, k_smem.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
    if REST > 0:
        s = hopper.warpgroup_mma(q_rest, k_rest_smem.index(slot).permute((1, 0)), s, is_async=True)
    return s


@gluon.jit
def attend_block(
    q, k_smem, v_smem, q_rest, k_rest_smem, k_bars, v_bars, block, weight, acc, top, total, scale_log2e, keys, last,
    S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr, REST: gl.constexpr, WINDOW: gl.constexpr, MASKED: gl.constexpr,
):
    """Scores of this block, while the tensor cores also add the previous block's weighted values to acc."""
    slot = block % STAGES
    before = (block - 1) % STAGES
    before_phase = ((block - 1) // STAGES) & 1
    # Kept in float32 until here: carried through the loop as 16-bit values it costs a permutation for each.
    p = gl.convert_layout(weight.to(q.dtype), gl.DotOperandLayout(0, O_LAYOUT, 2))
    hopper.mbarrier.wait(k_bars.index(slot), (block // STAGES) & 1)
    s = score_block(q, k_smem, q_rest, k_rest_smem, slot, weight.shape[1], S_LAYOUT, REST)
    hopper.mbarrier.wait(v_bars.index(before), before_phase)
    acc = hopper.warpgroup_mma(p, v_smem.index(before), acc, is_async=True)
    s, acc = hopper.warpgroup_mma_wait(1, deps=[s, acc])
    hopper.mbarrier.arrive(k_bars.index(STAGES + slot))
    if MASKED:
        s = hide(s, keys, last, WINDOW)
    new_top = gl.maximum(top, gl.max(s, axis=1))
    base = (gl.where(new_top == float("-inf"), 0.0, new_top) if MASKED else new_top) * scale_log2e
    fade = gl.exp2(top * scale_log2e - base)
    weight = gl.exp2(s * scale_log2e - base[:, None])
    total = total * gl.convert_layout(fade, gl.SliceLayout(1, total.type.layout))[:, None] + sums_in_thread(weight)
    # Complete since the product began; its loop keeps the assembler from hoisting the next wait over the softmax.
    hopper.mbarrier.wait(v_bars.index(before), before_phase)
    acc = hopper.warpgroup_mma_wait(0, deps=[acc])
    hopper.mbarrier.arrive(v_bars.index(STAGES + before))
    return weight, acc * gl.convert_layout(fade, gl.SliceLayout(1, O_LAYOUT))[:, None], new_top, total


@gluon.jit
def attend_tiles(
    sinks_ptr, out_ptr, lse_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e, q_smem, k_smem, v_smem,
    q_rest_smem, k_rest_smem, q_bars, k_bars, v_bars, HEADS: gl.constexpr, REST: gl.constexpr, DV: gl.constexpr,
    SPLITS: gl.constexpr, BLOCK_B: gl.constexpr, BLOCK_N: gl.constexpr, WINDOW: gl.constexpr, WARPGROUP: gl.constexpr,
):
    """Consumer warpgroup: HALF rows of every tile of this program."""
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    STORE: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DV, DV // 8], [4, 1], [1, 0])
    total_tiles = count_tiles(cu_q_ptr, batch, HEADS * SPLITS, BLOCK_B)
    q = q_smem.index(WARPGROUP)
    q_rest = q_rest_smem.index(WARPGROUP)
    keys = gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, S_LAYOUT))
    tile = 0
    block = 0
    for step in range((total_tiles + gl.num_programs(0) - 1) // gl.num_programs(0)):
        exists, column, q_begin, q_len, _, k_len, row, lowest, blocks = locate_tile(
            step, total_tiles, cu_q_ptr, cu_k_ptr, batch, level_bits, HEADS, SPLITS, BLOCK_B, BLOCK_N, WINDOW
        )
        if exists:
            first_row = row + WARPGROUP * HALF
            acc = gl.zeros([HALF, DV], gl.float32, O_LAYOUT)
            inverse = gl.full([HALF], 0.0, gl.float32, gl.SliceLayout(1, O_LAYOUT))
            lse = gl.full([HALF], float("-inf"), gl.float32, gl.SliceLayout(1, O_LAYOUT))
            if blocks > lowest:
                shift = k_len - q_len
                sees = first_row + shift + gl.arange(0, HALF, layout=gl.SliceLayout(1, S_LAYOUT))
                slot = block % STAGES
                hopper.mbarrier.wait(q_bars.index(0), tile & 1)
                hopper.mbarrier.wait(k_bars.index(slot), (block // STAGES) & 1)
                s = score_block(q, k_smem, q_rest, k_rest_smem, slot, BLOCK_N, S_LAYOUT, REST)
                s = hopper.warpgroup_mma_wait(0, deps=[s])
                hopper.mbarrier.arrive(k_bars.index(STAGES + slot))
                tile += 1
                block += 1
                s = hide(s, keys, sees - (blocks - 1) * BLOCK_N, WINDOW)
                top = gl.max(s, axis=1)
                base = gl.where(top == float("-inf"), 0.0, top) * scale_log2e
                weight = gl.exp2(s * scale_log2e - base[:, None])
                total = sums_in_thread(weight)
                whole = gl.minimum(gl.maximum(row + shift + 1, 0) // BLOCK_N, blocks - 1)
                if SPLITS > 1:
                    whole = gl.maximum(whole, lowest)
                cut = lowest  # the first block that all rows see whole
                if WINDOW >= TILE + BLOCK_N:
                    cut = gl.maximum(row + shift + TILE - WINDOW + BLOCK_N - 1, 0) // BLOCK_N
                    cut = gl.minimum(gl.maximum(cut, lowest), whole)
                elif WINDOW > 0:
                    whole = lowest
                for back in range(1, blocks - whole):
                    weight, acc, top, total = attend_block(
                        q, k_smem, v_smem, q_rest, k_rest_smem, k_bars, v_bars, block, weight, acc, top, total,
                        scale_log2e, keys, sees - (blocks - 1 - back) * BLOCK_N, S_LAYOUT, O_LAYOUT, REST, WINDOW, True,
                    )  # fmt: skip
                    block += 1
                if WINDOW == 0 or WINDOW >= TILE + BLOCK_N:
                    for _ in range(whole - cut):
                        weight, acc, top, total = attend_block(
                            q, k_smem, v_smem, q_rest, k_rest_smem, k_bars, v_bars, block, weight, acc, top, total,
                            scale_log2e, keys, sees, S_LAYOUT, O_LAYOUT, REST, WINDOW, False,
                        )  # fmt: skip
                        block += 1
                if WINDOW >= TILE + BLOCK_N:
                    for back in range(blocks - cut, blocks - lowest):
                        weight, acc, top, total = attend_block(
                            q, k_smem, v_smem, q_rest, k_rest_smem, k_bars, v_bars, block, weight, acc, top, total,
                            scale_log2e, keys, sees - (blocks - 1 - back) * BLOCK_N, S_LAYOUT, O_LAYOUT, REST, WINDOW,
                            True,
                        )  # fmt: skip
                        block += 1
                hopper.mbarrier.arrive(q_bars.index(1))
                slot = (block - 1) % STAGES
                p = gl.convert_layout(weight.to(q.dtype), gl.DotOperandLayout(0, O_LAYOUT, 2))
                hopper.mbarrier.wait(v_bars.index(slot), ((block - 1) // STAGES) & 1)
                acc = hopper.warpgroup_mma(p, v_smem.index(slot), acc, is_async=True)
                acc = hopper.warpgroup_mma_wait(0, deps=[acc])
                hopper.mbarrier.arrive(v_bars.index(STAGES + slot))
                sums = gl.sum(total, axis=1)
                if SPLITS > 1:
                    logs = gl.log2(sums)
                    base = gl.where(top == float("-inf"), 0.0, top) * scale_log2e
                    lse = gl.convert_layout(base, lse.type.layout) + gl.convert_layout(logs, lse.type.layout)
                elif sinks_ptr is not None:
                    sink = gl.load(sinks_ptr + column).to(gl.float32) * LOG2_E
                    sink = gl.exp2(sink - gl.where(top == float("-inf"), 0.0, top) * scale_log2e)
                    sums += gl.convert_layout(sink, sums.type.layout)
                inverse = gl.where(sums > 0.0, 1.0 / sums, 0.0)
                inverse = gl.convert_layout(inverse, gl.SliceLayout(1, O_LAYOUT))
            y = acc * inverse[:, None]
            if SPLITS == 1:  # for wide stores; in float32 it would not fit beside the stages
                y = gl.convert_layout(y.to(q.dtype), STORE)
            out_at = first_row + gl.arange(0, HALF, layout=gl.SliceLayout(1, y.type.layout))
            dim = gl.arange(0, DV, layout=gl.SliceLayout(0, y.type.layout))
            to = (q_begin + out_at).to(gl.int64)
            gl.store(out_ptr + to[:, None] * out_row + (column * DV + dim)[None, :], y, mask=(out_at < q_len)[:, None])
            if SPLITS > 1:
                gl.store(lse_ptr + to * (SPLITS * HEADS) + column, lse, mask=out_at < q_len)


@gluon.jit(do_not_specialize=["batch", "level_bits", "scale_log2e"])
def flash_attn_hopper_kernel(
    q_desc, k_desc, v_desc, q_rest_desc, k_rest_desc, sinks_ptr, out_ptr, lse_ptr, out_row, cu_q_ptr, cu_k_ptr, batch,
    level_bits, scale_log2e, HEADS: gl.constexpr, GROUP: gl.constexpr, D: gl.constexpr, REST: gl.constexpr,
    DV: gl.constexpr, Q_HEAD: gl.constexpr, K_HEAD: gl.constexpr, V_HEAD: gl.constexpr, SPLITS: gl.constexpr,
    BLOCK_B: gl.constexpr, BLOCK_N: gl.constexpr, WINDOW: gl.constexpr,
):
    """A program an SM, one warp that copies and two warpgroups that compute (FlashAttention-3, Shah et al., 2024).

    Each warpgroup overlaps the softmax of a block with the product of the last one's weights and values. bars: full
    ones first, then empty ones. Values past a sequence's end, in its last block of keys, meet weights of zero: they
    may be anything finite. Queries and keys have D + REST elements, in two parts where that is no power of two, heads
    apart by Q_HEAD, K_HEAD and V_HEAD elements within a row. Of several SPLITS of a tile's keys each writes its own
    softmax output to out [T, SPLITS, Hq, DV] in float32 and the logarithm (base 2) of its sum to lse [T, SPLITS, Hq],
    without the sinks, for join_splits_kernel.
    """
    layout: gl.constexpr = hopper.mbarrier.MBarrierLayout()
    q_smem = gl.allocate_shared_memory(q_desc.dtype, [2, HALF, D], q_desc.layout)
    k_smem = gl.allocate_shared_memory(q_desc.dtype, [STAGES, BLOCK_N, D], k_desc.layout)
    v_smem = gl.allocate_shared_memory(q_desc.dtype, [STAGES, BLOCK_N, DV], v_desc.layout)
    q_rest_smem = q_smem
    k_rest_smem = k_smem
    if REST > 0:
        q_rest_smem = gl.allocate_shared_memory(q_desc.dtype, [2, HALF, REST], q_rest_desc.layout)
        k_rest_smem = gl.allocate_shared_memory(q_desc.dtype, [STAGES, BLOCK_N, REST], k_rest_desc.layout)
    q_bars = gl.allocate_shared_memory(gl.int64, [2, 1], layout)
    k_bars = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], layout)
    v_bars = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], layout)
    hopper.mbarrier.init(q_bars.index(0), count=1)
    hopper.mbarrier.init(q_bars.index(1), count=2)
    for slot in gl.static_range(STAGES):
        hopper.mbarrier.init(k_bars.index(slot), count=1)
        hopper.mbarrier.init(v_bars.index(slot), count=1)
        hopper.mbarrier.init(k_bars.index(STAGES + slot), count=2)
        hopper.mbarrier.init(v_bars.index(STAGES + slot), count=2)
    gl.warp_specialize(
        [
            (attend_tiles, (sinks_ptr, out_ptr, lse_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e,
                            q_smem, k_smem, v_smem, q_rest_smem, k_rest_smem, q_bars, k_bars, v_bars, HEADS, REST, DV,
                            SPLITS, BLOCK_B, BLOCK_N, WINDOW, 0)),
            (attend_tiles, (sinks_ptr, out_ptr, lse_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e,
                            q_smem, k_smem, v_smem, q_rest_smem, k_rest_smem, q_bars, k_bars, v_bars, HEADS, REST, DV,
                            SPLITS, BLOCK_B, BLOCK_N, WINDOW, 1)),
            (load_tiles, (q_desc, k_desc, v_desc, q_rest_desc, k_rest_desc, cu_q_ptr, cu_k_ptr, batch, level_bits,
                          q_smem, k_smem, v_smem, q_rest_smem, k_rest_smem, q_bars, k_bars, v_bars, HEADS, GROUP, D,
                          REST, DV, Q_HEAD, K_HEAD, V_HEAD, SPLITS, BLOCK_B, BLOCK_N, WINDOW)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


def hopper_processors(device: torch.device) -> int:
    """Streaming multiprocessors of a Hopper GPU whose Triton has Gluon; else 0."""
    if device.type != "cuda" or TensorDescriptor is None or torch.cuda.get_device_capability(device) != (9, 0):
        return 0
    return torch.cuda.get_device_properties(device).multi_processor_count


def copies_by_tensor_map(*tensors: torch.Tensor) -> bool:
    """Whether the copy engine can read [T, H, D] tensors as rows in which the heads lie, at equal distances."""
    return all(
        x.numel() > 0 and x.dtype in (torch.bfloat16, torch.float16) and x.stride(2) == 1
        and x.shape[2] <= x.stride(1) and row_length(x) <= x.stride(0)
        and x.stride(0) % 8 == 0 and x.stride(1) % 8 == 0 and x.data_ptr() % 16 == 0
        for x in tensors
    )  # fmt: skip


def row_length(x: torch.Tensor) -> int:
    """Elements of [T, H, D] from a row's first to its last."""
    return (x.shape[1] - 1) * x.stride(1) + x.shape[2]


def tensor_map(x: torch.Tensor, rows: int, width: int) -> Any:
    """Descriptor of [T, H, D] as rows, for copies of [rows, width]."""
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    return TensorDescriptor(x, [x.shape[0], row_length(x)], [x.stride(0), 1], [rows, width], layout)


def block_size(query: torch.Tensor) -> int:
    """Rows and keys of the portable kernel's blocks: two stages of them fit in 99 KiB of shared memory."""
    return 64 if query.element_size() * query.shape[-1] <= 256 else 32


def has_short_prompts(query: torch.Tensor, key: torch.Tensor, sequences: int, max_seqlen_q: int) -> bool:
    """Whether the average prompt with its context fills no more than a tile of the Hopper kernel, and none many.

    Such tiles are partly empty, and slower than the portable kernel's of 64 rows, which heads of a group share: 4 or 8
    prompts of together 512 or 1024 tokens, the longest of 124 to 505, take up to 31 % less time there, and at most 1 %
    more, with 8 to 64 heads x 128; of 2048 tokens from 7 % less to 15 % more (H200, benchmarks/short_prompts.py).
    """
    short = key.shape[0] <= sequences * TILE.value and max_seqlen_q <= SHORT_TILES * TILE.value
    return short and block_size(query) == 64


def split_count(tiles: int, blocks: int, processors: int) -> int:
    """Splits of each tile's keys: where tiles are few, as many as still find a multiprocessor each.

    tiles: of all heads; blocks: key blocks of the longest sequence. A power of two.
    """
    most = min(processors // max(1, tiles), blocks // SPLIT_BLOCKS, MAX_SPLITS)
    return 1 << most.bit_length() - 1 if most else 1


def launch_hopper(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor, cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor, lengths: tuple[int, int], scale: float, sinks: torch.Tensor | None, window: int,
    splits: int | None = None,
) -> None:  # fmt: skip
    """As many programs as tiles can exist, at most one for each multiprocessor; lengths: the most queries and keys."""
    sequences, (tokens, heads, dim) = cu_seqlens_q.shape[0] - 1, query.shape
    tiles = (triton.cdiv(tokens, TILE.value) if sequences == 1 else tokens // TILE.value + sequences) * heads
    block_n, processors = HOPPER_HEAD_SIZES[dim, value.shape[2]], hopper_processors(query.device)
    if splits is None:
        splits = 1 if window else split_count(tiles, triton.cdiv(lengths[1], block_n), processors)
    main = 1 << dim.bit_length() - 1
    rest = dim - main
    part, lse = out, None
    if splits > 1:
        part = torch.empty(tokens, splits * heads, value.shape[2], dtype=torch.float32, device=query.device)
        lse = torch.empty(tokens, splits * heads, dtype=torch.float32, device=query.device)
    flash_attn_hopper_kernel[(min(processors, tiles * splits),)](
        tensor_map(query, HALF.value, main), tensor_map(key, block_n, main), tensor_map(value, block_n, value.shape[2]),
        tensor_map(query, HALF.value, rest) if rest else None, tensor_map(key, block_n, rest) if rest else None, sinks,
        part, lse, part.stride(0), cu_seqlens_q, cu_seqlens_k, sequences,
        triton.cdiv(lengths[0], TILE.value).bit_length(), scale * LOG2_E.value, HEADS=heads,
        GROUP=heads // key.shape[1], D=main, REST=rest, DV=value.shape[2], Q_HEAD=query.stride(1),
        K_HEAD=key.stride(1), V_HEAD=value.stride(1), SPLITS=splits,
        BLOCK_B=1 if sequences == 1 else max(32, triton.next_power_of_2(sequences)), BLOCK_N=block_n, WINDOW=window,
        num_warps=4,
    )  # fmt: skip
    if lse is not None:
        join_splits(part, lse, sinks, out, splits)


def join_splits(
    part: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor | None, out: torch.Tensor, splits: int
) -> None:
    """part: [T, splits * Hq, Dv] and lse: [T, splits * Hq], float32, into out: [T, Hq, Dv]."""
    rows, heads, dim = out.shape
    join_splits_kernel[(triton.cdiv(rows, JOINED_ROWS) * heads,)](
        part, lse, sinks, out, rows, HEADS=heads, SPLITS=splits, DV=dim, BLOCK_DV=triton.next_power_of_2(dim),
        BLOCK_R=JOINED_ROWS, num_warps=4,
    )  # fmt: skip


def launch_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor, cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor, lengths: tuple[int, int], scale: float, sinks: torch.Tensor | None, window: int,
    soft_cap: float = 0.0,
) -> None:  # fmt: skip
    """A program for each tile that a sequence of the most queries, lengths[0], would have; a group's heads share it."""
    sequences, (_, heads, dim), block = cu_seqlens_q.shape[0] - 1, query.shape, block_size(query)
    group = heads // key.shape[1]
    pack = min(group & -group, block)  # the largest power of two that divides the group
    levels = triton.cdiv(lengths[0], block // pack)
    if not sequences or not levels:
        return
    flash_attn_prefill_kernel[(sequences * heads // pack, levels)](
        query, key, value, sinks, out, cu_seqlens_q, cu_seqlens_k, *query.stride()[:2], *key.stride()[:2],
        *value.stride()[:2], levels, scale * LOG2_E.value, HEADS=heads, GROUP=group, PACK=pack, D=dim,
        DV=value.shape[2], BLOCK_D=max(16, triton.next_power_of_2(dim)),
        BLOCK_DV=max(16, triton.next_power_of_2(value.shape[2])), BLOCK_M=block, BLOCK_N=block, WINDOW=window,
        CAP=soft_cap * LOG2_E.value, num_warps=4, num_stages=2,
    )  # fmt: skip


def attend_packed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, scale: float, sinks: torch.Tensor | None,
    window: int, soft_cap: float,
) -> torch.Tensor:  # fmt: skip
    """On Hopper the warp-specialised kernel, else, and where it would not do, the portable one; 0: no window, cap."""
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    out = torch.empty(*query.shape[:2], value.shape[2], dtype=query.dtype, device=query.device)
    fits = (query.shape[2], value.shape[2]) in HOPPER_HEAD_SIZES and cu_seqlens_q.shape[0] <= HOPPER_SEQUENCES
    on_hopper = (fits and hopper_processors(query.device) and copies_by_tensor_map(query, key, value)
                 and not has_short_prompts(query, key, cu_seqlens_q.shape[0] - 1, max_seqlen_q))
    given = (query, key, value, out, cu_seqlens_q, cu_seqlens_k, (max_seqlen_q, max_seqlen_k), scale, sinks, window)
    if on_hopper and not soft_cap:  # that kernel has no soft cap
        launch_hopper(*given)
    else:
        launch_blocks(*given, soft_cap)
    return out


attend_packed_op = torch.library.custom_op(
    f"fastkernels::{__name__.replace('.', '_')}", attend_packed, mutates_args=()
)
"""For torch.compile, which cannot trace tensor maps; named after the module, since the overlay imports it twice."""


@attend_packed_op.register_fake
def like_query(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any) -> torch.Tensor:
    """Shape and dtype of the result."""
    del key, rest
    return query.new_empty((*query.shape[:2], value.shape[2]))


class FlashAttnPrefill(Op):
    """softmax(scale Q K^T + causal mask) V of packed sequences (FlashAttention-2 and -3, Dao 2023, Shah et al. 2024).

    query: [T, Hq, D], key: [S, Hkv, D], value: [S, Hkv, Dv], cu_seqlens_q and cu_seqlens_k: [B + 1] int32, from 0 to T
    and S: sequence b holds rows cu_seqlens_q[b] to cu_seqlens_q[b + 1]; max_seqlen_q and max_seqlen_k: at least every
    length; sinks: [Hq] -> [T, Hq, Dv]. Row i of a sequence with m queries and n keys sees keys 0 .. i + n - m (aligned
    at the last row), of these the last `sliding_window` where that is given; a row that sees none is zeros. With
    `logits_soft_cap` c a scaled score s becomes c tanh(s / c) (Gemma 2, 2024). Query head
    h reads KV head h // (Hq / Hkv). A sink is one more logit of its head's softmax, unscaled and without a value
    (Xiao et al., 2024, as gpt-oss learns it). Inputs are not changed. As vLLM's flash_attn_varlen_func with
    causal=True, window_size=(sliding_window - 1, 0), softcap=logits_soft_cap and s_aux=sinks.
    """

    provider = "triton"

    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int, sliding_window: int | None = None,
        logits_soft_cap: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if sliding_window is not None and sliding_window < 1:
            raise ValueError(f"sliding_window: {sliding_window} is not 1 or more (None: every key)")
        if logits_soft_cap is not None and not logits_soft_cap > 0:
            raise ValueError(f"logits_soft_cap: {logits_soft_cap} is not over 0 (None: scores as they are)")
        self.num_heads = num_heads
        self.head_size = head_size
        self.scale = scale
        self.num_kv_heads = num_kv_heads
        self.sliding_window = sliding_window
        self.logits_soft_cap = logits_soft_cap

    def forward_native(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Plain PyTorch in float32 or better: per sequence, blocks of rows against the keys that they see."""
        del max_seqlen_q, max_seqlen_k
        out = query.new_zeros((*query.shape[:2], value.shape[2]))
        q_ends, k_ends = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
        for q0, q1, k0, k1 in zip(q_ends, q_ends[1:], k_ends, k_ends[1:], strict=False):
            rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0)))
            for first in range(q0, q1, rows):
                last = min(first + rows, q1)
                seen = k1 - (q1 - last)
                if seen > k0:
                    shift = (first - q0) + (k1 - k0) - (q1 - q0)
                    low = max(0, shift + 1 - self.sliding_window) if self.sliding_window else 0
                    keys = slice(k0 + low, seen)
                    out[first:last] = self.attend(query[first:last], key[keys], value[keys], shift - low, sinks)
        return out

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shift: int, sinks: torch.Tensor | None
    ) -> torch.Tensor:
        """Rows [R, Hq, D] against keys [S, Hkv, D], of which row r sees none past r + shift -> [R, Hq, Dv]."""
        wide = torch.promote_types(query.dtype, torch.float32)
        rows, keys = query.shape[0], key.shape[0]
        q = query.to(wide).view(rows, self.num_kv_heads, -1, self.head_size).permute(1, 2, 0, 3)
        q = q.reshape(self.num_kv_heads, -1, self.head_size)
        scores = torch.matmul(q, key.to(wide).permute(1, 2, 0)).mul_(self.scale)
        if self.logits_soft_cap is not None:
            scores = scores.div_(self.logits_soft_cap).tanh_().mul_(self.logits_soft_cap)
        column, row = torch.arange(keys, device=query.device), torch.arange(rows, device=query.device)[:, None]
        hidden = column > row + shift
        if self.sliding_window:
            hidden |= column <= row + shift - self.sliding_window
        scores = scores.view(self.num_kv_heads, -1, rows, keys).masked_fill_(hidden, -torch.inf)
        if sinks is not None:
            logit = sinks.to(wide).view(self.num_kv_heads, -1, 1, 1).expand(-1, -1, rows, -1)
            scores = torch.cat((scores, logit), dim=-1)
        weights = torch.softmax(scores, dim=-1)[..., :keys].masked_fill(row + shift < 0, 0.0)
        y = torch.matmul(weights.reshape(self.num_kv_heads, -1, keys), value.to(wide).transpose(0, 1))
        y = y.view(self.num_kv_heads, -1, rows, value.shape[2]).permute(2, 0, 1, 3)
        return y.reshape(rows, self.num_heads, value.shape[2]).to(query.dtype)

    def forward_cuda(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """On Hopper a warp-specialised Gluon kernel, else, and for what that does not take, a portable Triton one."""
        # A window that hides nothing is none, so that such calls share one kernel.
        window = self.sliding_window if self.sliding_window and self.sliding_window < max_seqlen_k else 0
        attend = attend_packed_op if torch.compiler.is_compiling() else attend_packed
        return attend(
            query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, self.scale, sinks, window,
            self.logits_soft_cap or 0.0,
        )  # fmt: skip

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Slices of the fused projection, rotated in place."""
        del inputs
        return ("query", "key", "value")

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Queries, keys that are seen, values and outputs once; two products over the pairs that the mask leaves."""
        pairs = seen = 0
        lengths = (inputs[name].diff().tolist() for name in ("cu_seqlens_q", "cu_seqlens_k"))
        for rows, keys in zip(*lengths, strict=True):
            window = self.sliding_window or max(1, keys)
            hidden = max(0, rows - keys)
            first = keys - rows + hidden + 1
            seen += keys - max(0, first - window) if rows else 0
            growing = max(0, min(keys, window) - first + 1)
            pairs += growing * (2 * first + growing - 1) // 2 + (rows - hidden - growing) * window
        key, value = inputs["key"], inputs["value"]
        per_key = key.shape[1] * (key.shape[2] + value.shape[2])
        tensors = [inputs[name] for name in ("query", "cu_seqlens_q", "cu_seqlens_k")]
        return Work(
            bytes=tensor_bytes(*tensors, inputs.get("sinks"), *outputs) + seen * per_key * key.element_size(),
            flops=2 * pairs * self.num_heads * (key.shape[2] + value.shape[2]),
        )
