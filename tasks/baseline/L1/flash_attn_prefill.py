"""Causal attention of prompts that are packed without padding."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import TensorDescriptor, gl, gluon, hopper, tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

LOG2_E = 1.0 / math.log(2.0)
SCORES = 2**25
"""Scores that the native path holds at once."""
HOPPER_HEAD_SIZES = (64, 128)
HOPPER_SEQUENCES = 4096
"""The Hopper kernel looks through the lengths of this many sequences at most."""
TILE = gl.constexpr(128)
"""Query rows of a tile and keys of a block in the Hopper kernel."""
HALF = gl.constexpr(64)
"""Rows of a tile that one warpgroup holds."""
STAGES = gl.constexpr(2)
"""Key blocks, and value blocks, in shared memory."""


@triton.jit(do_not_specialize=["levels", "scale_log2e"])
def flash_attn_prefill_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, cu_q_ptr, cu_k_ptr, q_row, q_head, k_row, k_head, v_row, v_head, levels, scale_log2e,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M query rows of one head, online softmax in float32 (FlashAttention-2, Dao, 2023).

    Programs start with the rows that see the most keys. Key blocks wholly before the diagonal need no mask.
    """
    scale_log2e = tl.cast(scale_log2e, tl.float32)  # torch.compile passes float64
    head = tl.program_id(0) % HEADS
    seq = tl.program_id(0) // HEADS
    level = levels - 1 - tl.program_id(1)
    q_begin = tl.load(cu_q_ptr + seq)
    q_len = tl.load(cu_q_ptr + seq + 1) - q_begin
    k_begin = tl.load(cu_k_ptr + seq)
    k_len = tl.load(cu_k_ptr + seq + 1) - k_begin
    if level * BLOCK_M >= q_len:
        return
    shift = k_len - q_len
    row = level * BLOCK_M + tl.arange(0, BLOCK_M)
    dim = tl.arange(0, BLOCK_D)
    in_dim = (dim < D)[None, :]
    in_row = (row < q_len)[:, None] & in_dim
    q_at = (q_begin + row).to(tl.int64)[:, None]
    q = tl.load(q_ptr + q_at * q_row + head * q_head + dim[None, :], mask=in_row, other=0.0)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.full([BLOCK_M], 0.0, tl.float32)
    acc = tl.full([BLOCK_M, BLOCK_D], 0.0, tl.float32)
    k_base = k_ptr + k_begin.to(tl.int64) * k_row + head // GROUP * k_head + dim[None, :]
    v_base = v_ptr + k_begin.to(tl.int64) * v_row + head // GROUP * v_head + dim[None, :]
    seen = tl.minimum(k_len, level * BLOCK_M + BLOCK_M + shift)
    whole = tl.minimum(tl.maximum(level * BLOCK_M + shift + 1, 0), k_len) // BLOCK_N * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        at = (start + tl.arange(0, BLOCK_N)).to(tl.int64)[:, None]
        k = tl.load(k_base + at * k_row, mask=in_dim, other=0.0)
        v = tl.load(v_base + at * v_row, mask=in_dim, other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2e
        new_top = tl.maximum(top, tl.max(s, axis=1))
        weight = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top
    for start in range(whole, seen, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        at = column.to(tl.int64)[:, None]
        in_key = (column < k_len)[:, None] & in_dim
        k = tl.load(k_base + at * k_row, mask=in_key, other=0.0)
        v = tl.load(v_base + at * v_row, mask=in_key, other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2e
        # A row that is stored sees no key past the sequence.
        s = tl.where(column[None, :] <= row[:, None] + shift, s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(s - base[:, None])
        fade = tl.exp2(top - base)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top
    y = acc * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]
    tl.store(out_ptr + q_at * (HEADS * D) + head * D + dim[None, :], y.to(out_ptr.dtype.element_ty), mask=in_row)


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
def count_tiles(cu_q_ptr, batch, HEADS: gl.constexpr, BLOCK_B: gl.constexpr):
    """Tiles of all sequences and heads."""
    if BLOCK_B == 1:
        return (gl.load(cu_q_ptr + 1) - gl.load(cu_q_ptr) + TILE - 1) // TILE * HEADS
    else:
        return gl.sum(tiles_of_sequences(cu_q_ptr, batch, BLOCK_B), axis=0) * HEADS


@gluon.jit
def locate_tile(
    step, total, cu_q_ptr, cu_k_ptr, batch, level_bits, HEADS: gl.constexpr, BLOCK_B: gl.constexpr
):  # fmt: skip
    """The tile of this program's step: (exists, head, q_begin, q_len, k_begin, k_len, first row, key blocks).

    Tiles are ordered by falling level (place in the sequence, hence cost), then sequence, then head, and dealt out
    back and forth, so that every program's tiles cost about the same.
    """
    programs = gl.num_programs(0)
    program = gl.program_id(0)
    tile = step * programs + gl.where(step % 2 == 0, program, programs - 1 - program)
    exists = tile < total
    tile = gl.minimum(tile, total - 1)
    rank = tile // HEADS
    if BLOCK_B == 1:
        level = total // HEADS - 1 - rank
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
    return exists, tile % HEADS, q_begin, q_len, k_begin, k_len, level * TILE, gl.maximum(seen + TILE - 1, 0) // TILE


@gluon.jit
def load_tiles(
    q_desc, k_desc, v_desc, cu_q_ptr, cu_k_ptr, batch, level_bits, q_smem, k_smem, v_smem, q_bars, k_bars, v_bars,
    HEADS: gl.constexpr, GROUP: gl.constexpr, D: gl.constexpr, BLOCK_B: gl.constexpr,
):
    """Producer warp: copies queries, then blocks of keys and values from the diagonal back to the first."""
    total = count_tiles(cu_q_ptr, batch, HEADS, BLOCK_B)
    tile = 0
    block = 0
    for step in range((total + gl.num_programs(0) - 1) // gl.num_programs(0)):
        exists, head, q_begin, _, k_begin, _, row, blocks = locate_tile(
            step, total, cu_q_ptr, cu_k_ptr, batch, level_bits, HEADS, BLOCK_B
        )
        if exists and blocks > 0:
            hopper.mbarrier.wait(q_bars.index(1), (tile & 1) ^ 1)
            hopper.mbarrier.expect(q_bars.index(0), TILE * D * 2)
            for half in gl.static_range(2):
                hopper.tma.async_copy_global_to_shared(
                    q_desc, [q_begin + row + half * HALF, head * D], q_bars.index(0), q_smem.index(half)
                )
            tile += 1
            for back in range(blocks):
                at = [k_begin + (blocks - 1 - back) * TILE, head // GROUP * D]
                slot = block % STAGES
                free = ((block // STAGES) & 1) ^ 1
                hopper.mbarrier.wait(k_bars.index(STAGES + slot), free)
                hopper.mbarrier.expect(k_bars.index(slot), TILE * D * 2)
                hopper.tma.async_copy_global_to_shared(k_desc, at, k_bars.index(slot), k_smem.index(slot))
                hopper.mbarrier.wait(v_bars.index(STAGES + slot), free)
                hopper.mbarrier.expect(v_bars.index(slot), TILE * D * 2)
                hopper.tma.async_copy_global_to_shared(v_desc, at, v_bars.index(slot), v_smem.index(slot))
                block += 1


@gluon.jit
def sums_in_thread(weight):
    """[HALF, TILE] -> [HALF, 4]: each thread sums what it holds of a row; the four meet once a tile."""
    return gl.sum(gl.sum(gl.reshape(weight, [HALF, TILE // 8, 4, 2]), axis=3), axis=1)


@gluon.jit
def hide(scores, keys, last):
    """-inf where a key comes after the last that its row sees; that is in the sequence for every row that is stored."""
    return gl.where(keys[None, :] <= last[:, None], scores, float("-inf"))


@gluon.jit
def attend_block(
    q, k_smem, v_smem, k_bars, v_bars, block, weight, acc, top, total, scale_log2e, keys, last,
    S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr, MASKED: gl.constexpr,
):
    """Scores of this block, while the tensor cores also add the previous block's weighted values to acc."""
    slot = block % STAGES
    before = (block - 1) % STAGES
    before_phase = ((block - 1) // STAGES) & 1
    # Kept in float32 until here: carried through the loop as 16-bit values it costs a permutation for each.
    p = gl.convert_layout(weight.to(q.dtype), gl.DotOperandLayout(0, O_LAYOUT, 2))
    hopper.mbarrier.wait(k_bars.index(slot), (block // STAGES) & 1)
    zeros = gl.zeros([HALF, TILE], gl.float32, S_LAYOUT)
    s = hopper.warpgroup_mma(q, k_smem.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
    hopper.mbarrier.wait(v_bars.index(before), before_phase)
    acc = hopper.warpgroup_mma(p, v_smem.index(before), acc, is_async=True)
    s, acc = hopper.warpgroup_mma_wait(1, deps=[s, acc])
    hopper.mbarrier.arrive(k_bars.index(STAGES + slot))
    if MASKED:
        s = hide(s, keys, last)
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
    out_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e, q_smem, k_smem, v_smem, q_bars, k_bars,
    v_bars, HEADS: gl.constexpr, D: gl.constexpr, BLOCK_B: gl.constexpr, WARPGROUP: gl.constexpr,
):
    """Consumer warpgroup: HALF rows of every tile of this program."""
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TILE, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    STORE: gl.constexpr = gl.BlockedLayout([1, 8], [256 // D, D // 8], [4, 1], [1, 0])
    total_tiles = count_tiles(cu_q_ptr, batch, HEADS, BLOCK_B)
    q = q_smem.index(WARPGROUP)
    keys = gl.arange(0, TILE, layout=gl.SliceLayout(0, S_LAYOUT))
    tile = 0
    block = 0
    for step in range((total_tiles + gl.num_programs(0) - 1) // gl.num_programs(0)):
        exists, head, q_begin, q_len, _, k_len, row, blocks = locate_tile(
            step, total_tiles, cu_q_ptr, cu_k_ptr, batch, level_bits, HEADS, BLOCK_B
        )
        if exists:
            first_row = row + WARPGROUP * HALF
            acc = gl.zeros([HALF, D], gl.float32, O_LAYOUT)
            inverse = gl.full([HALF], 0.0, gl.float32, gl.SliceLayout(1, O_LAYOUT))
            if blocks > 0:
                shift = k_len - q_len
                sees = first_row + shift + gl.arange(0, HALF, layout=gl.SliceLayout(1, S_LAYOUT))
                slot = block % STAGES
                hopper.mbarrier.wait(q_bars.index(0), tile & 1)
                hopper.mbarrier.wait(k_bars.index(slot), (block // STAGES) & 1)
                zeros = gl.zeros([HALF, TILE], gl.float32, S_LAYOUT)
                first_keys = k_smem.index(slot).permute((1, 0))
                s = hopper.warpgroup_mma(q, first_keys, zeros, use_acc=False, is_async=True)
                s = hopper.warpgroup_mma_wait(0, deps=[s])
                hopper.mbarrier.arrive(k_bars.index(STAGES + slot))
                tile += 1
                block += 1
                s = hide(s, keys, sees - (blocks - 1) * TILE)
                top = gl.max(s, axis=1)
                base = gl.where(top == float("-inf"), 0.0, top) * scale_log2e
                weight = gl.exp2(s * scale_log2e - base[:, None])
                total = sums_in_thread(weight)
                whole = gl.minimum(gl.maximum(row + shift + 1, 0) // TILE, blocks - 1)
                for back in range(1, blocks - whole):
                    weight, acc, top, total = attend_block(
                        q, k_smem, v_smem, k_bars, v_bars, block, weight, acc, top, total, scale_log2e, keys,
                        sees - (blocks - 1 - back) * TILE, S_LAYOUT, O_LAYOUT, True,
                    )  # fmt: skip
                    block += 1
                for _ in range(whole):
                    weight, acc, top, total = attend_block(
                        q, k_smem, v_smem, k_bars, v_bars, block, weight, acc, top, total, scale_log2e, keys,
                        sees, S_LAYOUT, O_LAYOUT, False,
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
                inverse = gl.where(sums > 0.0, 1.0 / sums, 0.0)
                inverse = gl.convert_layout(inverse, gl.SliceLayout(1, O_LAYOUT))
            y = gl.convert_layout((acc * inverse[:, None]).to(q.dtype), STORE)
            out_at = first_row + gl.arange(0, HALF, layout=gl.SliceLayout(1, STORE))
            dim = gl.arange(0, D, layout=gl.SliceLayout(0, STORE))
            to = out_ptr + (q_begin + out_at).to(gl.int64)[:, None] * out_row + (head * D + dim)[None, :]
            gl.store(to, y, mask=(out_at < q_len)[:, None])


@gluon.jit(do_not_specialize=["batch", "level_bits", "scale_log2e"])
def flash_attn_hopper_kernel(
    q_desc, k_desc, v_desc, out_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e, HEADS: gl.constexpr,
    GROUP: gl.constexpr, D: gl.constexpr, BLOCK_B: gl.constexpr,
):
    """A program an SM, one warp that copies and two warpgroups that compute (FlashAttention-3, Shah et al., 2024).

    Each warpgroup overlaps the softmax of a block with the product of the last one's weights and values. bars: full
    ones first, then empty ones. Values past a sequence's end, in its last block of TILE, meet weights of zero: they
    may be anything finite.
    """
    layout: gl.constexpr = hopper.mbarrier.MBarrierLayout()
    q_smem = gl.allocate_shared_memory(q_desc.dtype, [2, HALF, D], q_desc.layout)
    k_smem = gl.allocate_shared_memory(q_desc.dtype, [STAGES, TILE, D], k_desc.layout)
    v_smem = gl.allocate_shared_memory(q_desc.dtype, [STAGES, TILE, D], v_desc.layout)
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
            (attend_tiles, (out_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e, q_smem, k_smem,
                            v_smem, q_bars, k_bars, v_bars, HEADS, D, BLOCK_B, 0)),
            (attend_tiles, (out_ptr, out_row, cu_q_ptr, cu_k_ptr, batch, level_bits, scale_log2e, q_smem, k_smem,
                            v_smem, q_bars, k_bars, v_bars, HEADS, D, BLOCK_B, 1)),
            (load_tiles, (q_desc, k_desc, v_desc, cu_q_ptr, cu_k_ptr, batch, level_bits, q_smem, k_smem, v_smem,
                          q_bars, k_bars, v_bars, HEADS, GROUP, D, BLOCK_B)),
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
    """Whether the copy engine can read [T, H, D] tensors as rows of H * D elements."""
    return all(
        x.numel() > 0 and x.dtype in (torch.bfloat16, torch.float16) and x.stride()[1:] == (x.shape[2], 1)
        and x.stride(0) % 8 == 0 and x.data_ptr() % 16 == 0
        for x in tensors
    )  # fmt: skip


def tensor_map(x: torch.Tensor, rows: int) -> Any:
    """Descriptor of [T, H, D] as [T, H * D] for copies of [rows, D]."""
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    shape, strides = [x.shape[0], x.shape[1] * x.shape[2]], [x.stride(0), 1]
    return TensorDescriptor(x, shape, strides, [rows, x.shape[2]], layout)


def block_size(query: torch.Tensor) -> int:
    """Rows and keys of the portable kernel's blocks: two stages of them fit in 99 KiB of shared memory."""
    return 64 if query.element_size() * query.shape[-1] <= 256 else 32


def launch_hopper(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor, cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor, max_seqlen_q: int, scale: float,
) -> None:  # fmt: skip
    """As many programs as tiles can exist, at most one for each multiprocessor."""
    sequences, (tokens, heads, dim) = cu_seqlens_q.shape[0] - 1, query.shape
    tiles = (tokens // TILE.value + sequences) * heads
    flash_attn_hopper_kernel[(min(hopper_processors(query.device), tiles),)](
        tensor_map(query, HALF.value), tensor_map(key, TILE.value), tensor_map(value, TILE.value), out, out.stride(0),
        cu_seqlens_q, cu_seqlens_k, sequences, triton.cdiv(max_seqlen_q, TILE.value).bit_length(), scale * LOG2_E,
        HEADS=heads, GROUP=heads // key.shape[1], D=dim,
        BLOCK_B=1 if sequences == 1 else max(32, triton.next_power_of_2(sequences)), num_warps=4,
    )  # fmt: skip


def launch_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor, cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor, max_seqlen_q: int, scale: float,
) -> None:  # fmt: skip
    """A program for each tile that a sequence of max_seqlen_q rows would have."""
    sequences, (_, heads, dim), block = cu_seqlens_q.shape[0] - 1, query.shape, block_size(query)
    levels = triton.cdiv(max_seqlen_q, block)
    if not sequences or not levels:
        return
    flash_attn_prefill_kernel[(sequences * heads, levels)](
        query, key, value, out, cu_seqlens_q, cu_seqlens_k, *query.stride()[:2], *key.stride()[:2],
        *value.stride()[:2], levels, scale * LOG2_E, HEADS=heads, GROUP=heads // key.shape[1], D=dim,
        BLOCK_D=max(16, triton.next_power_of_2(dim)), BLOCK_M=block, BLOCK_N=block, num_warps=4, num_stages=2,
    )  # fmt: skip


def attend_packed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor, max_seqlen_q: int, scale: float,
) -> torch.Tensor:  # fmt: skip
    """On Hopper the warp-specialised kernel, else, and for what that does not take, the portable one."""
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    fits = query.shape[2] in HOPPER_HEAD_SIZES and cu_seqlens_q.shape[0] <= HOPPER_SEQUENCES
    on_hopper = fits and hopper_processors(query.device) and copies_by_tensor_map(query, key, value)
    launch = launch_hopper if on_hopper else launch_blocks
    launch(query, key, value, out, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, scale)
    return out


attend_packed_op = torch.library.custom_op(
    f"fastkernels::{__name__.replace('.', '_')}", attend_packed, mutates_args=()
)
"""For torch.compile, which cannot trace tensor maps; named after the module, since the overlay imports it twice."""


@attend_packed_op.register_fake
def like_query(query: torch.Tensor, *rest: Any) -> torch.Tensor:
    """Shape and dtype of the result."""
    del rest
    return query.new_empty(query.shape)


class FlashAttnPrefill(Op):
    """softmax(scale Q K^T + causal mask) V of packed sequences (FlashAttention-2 and -3, Dao 2023, Shah et al. 2024).

    query: [T, Hq, D], key and value: [S, Hkv, D], cu_seqlens_q and cu_seqlens_k: [B + 1] int32, from 0 to T and S:
    sequence b holds rows cu_seqlens_q[b] to cu_seqlens_q[b + 1]; max_seqlen_q and max_seqlen_k: at least every
    length -> [T, Hq, D]. Row i of a sequence with m queries and n keys sees keys 0 .. i + n - m (aligned at the last
    row); a row that sees none is zeros. Query head h reads KV head h // (Hq / Hkv). Inputs are not changed. As vLLM's
    flash_attn_varlen_func with causal=True.
    """

    provider = "triton"

    def __init__(self, num_heads: int, head_size: int, scale: float, num_kv_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = head_size
        self.scale = scale
        self.num_kv_heads = num_kv_heads

    def forward_native(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int,
    ) -> torch.Tensor:  # fmt: skip
        """Plain PyTorch in float32 or better: per sequence, blocks of rows against the keys that they see."""
        del max_seqlen_q, max_seqlen_k
        out = torch.zeros_like(query)
        q_ends, k_ends = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
        for q0, q1, k0, k1 in zip(q_ends, q_ends[1:], k_ends, k_ends[1:], strict=False):
            rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0)))
            for first in range(q0, q1, rows):
                last = min(first + rows, q1)
                seen = k1 - (q1 - last)
                if seen > k0:
                    shift = (first - q0) + (k1 - k0) - (q1 - q0)
                    out[first:last] = self.attend(query[first:last], key[k0:seen], value[k0:seen], shift)
        return out

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shift: int) -> torch.Tensor:
        """Rows [R, Hq, D] against keys [S, Hkv, D], of which row r sees 0 .. r + shift -> [R, Hq, D]."""
        wide = torch.promote_types(query.dtype, torch.float32)
        rows, keys = query.shape[0], key.shape[0]
        q = query.to(wide).view(rows, self.num_kv_heads, -1, self.head_size).permute(1, 2, 0, 3)
        q = q.reshape(self.num_kv_heads, -1, self.head_size)
        scores = torch.matmul(q, key.to(wide).permute(1, 2, 0)).mul_(self.scale)
        column, row = torch.arange(keys, device=query.device), torch.arange(rows, device=query.device)[:, None]
        scores = scores.view(self.num_kv_heads, -1, rows, keys).masked_fill_(column > row + shift, -torch.inf)
        weights = torch.softmax(scores, dim=-1).masked_fill_(row + shift < 0, 0.0)
        y = torch.matmul(weights.view(self.num_kv_heads, -1, keys), value.to(wide).transpose(0, 1))
        y = y.view(self.num_kv_heads, -1, rows, self.head_size).permute(2, 0, 1, 3)
        return y.reshape(rows, self.num_heads, self.head_size).to(query.dtype)

    def forward_cuda(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int,
    ) -> torch.Tensor:  # fmt: skip
        """On Hopper a warp-specialised Gluon kernel, else, and for what that does not take, a portable Triton one."""
        del max_seqlen_k
        attend = attend_packed_op if torch.compiler.is_compiling() else attend_packed
        return attend(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, self.scale)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Queries, keys, values and outputs once; two products over the pairs that the causal mask leaves."""
        pairs = 0
        lengths = (inputs[name].diff().tolist() for name in ("cu_seqlens_q", "cu_seqlens_k"))
        for rows, keys in zip(*lengths, strict=True):
            hidden = max(0, rows - keys)
            first = keys - rows + hidden + 1
            pairs += (rows - hidden) * (first + keys) // 2
        tensors = [inputs[name] for name in ("query", "key", "value", "cu_seqlens_q", "cu_seqlens_k")]
        return Work(bytes=tensor_bytes(*tensors, *outputs), flops=4 * pairs * self.num_heads * self.head_size)
