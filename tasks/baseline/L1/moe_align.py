"""Orders tokens by expert, each expert's share padded to whole blocks, for the grouped products of experts."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

COUNT_CHUNK = 2048
"""Choices that one program counts; up to so many are counted by every program itself, without a second launch."""


@triton.jit
def count_kernel(ids_ptr, counts_ptr, choices, EXPERTS_BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """counts[p, e] = how often expert e occurs in the p-th CHUNK of ids."""
    program = tl.program_id(0)
    at = program * CHUNK + tl.arange(0, CHUNK)
    ids = tl.load(ids_ptr + at, mask=at < choices, other=0).to(tl.int32)
    counts = tl.histogram(ids, EXPERTS_BLOCK, mask=at < choices)
    tl.store(counts_ptr + program * EXPERTS_BLOCK + tl.arange(0, EXPERTS_BLOCK), counts)


@triton.jit
def moe_align_kernel(
    ids_ptr, counts_ptr, sorted_ptr, expert_ids_ptr, padded_ptr, choices, chunks, SIZE: tl.constexpr,
    SIZE_BLOCK: tl.constexpr, EXPERTS_BLOCK: tl.constexpr, CHUNK: tl.constexpr, COUNTED: tl.constexpr,
):
    """Program e writes the places of expert e in sorted order: its choices in rising order, then padding.

    COUNTED: counts_ptr holds `chunks` rows of counts; else CHUNK holds all choices, which the program counts itself.
    """
    mine = tl.program_id(0)
    expert = tl.arange(0, EXPERTS_BLOCK)
    counts = tl.zeros([EXPERTS_BLOCK], tl.int32)
    lane = tl.arange(0, CHUNK)
    if COUNTED:
        for chunk in range(chunks):
            counts += tl.load(counts_ptr + chunk * EXPERTS_BLOCK + expert)
    else:
        ids = tl.load(ids_ptr + lane, mask=lane < choices, other=0).to(tl.int32)
        counts += tl.histogram(ids, EXPERTS_BLOCK, mask=lane < choices)
    blocks = (counts + SIZE - 1) // SIZE
    first_block = tl.sum(tl.where(expert < mine, blocks, 0))
    my_blocks = tl.sum(tl.where(expert == mine, blocks, 0))
    my_count = tl.sum(tl.where(expert == mine, counts, 0))
    if mine == 0:
        tl.store(padded_ptr, tl.sum(blocks) * SIZE)
    for block in range(my_blocks):
        tl.store(expert_ids_ptr + first_block + block, mine)
    place = tl.arange(0, SIZE_BLOCK)
    last = (my_blocks - 1) * SIZE + place
    padding = (my_blocks > 0) & (place < SIZE) & (last >= my_count)
    tl.store(sorted_ptr + first_block * SIZE + last, choices + place * 0, mask=padding)
    place_base = first_block * SIZE
    for start in range(0, choices, CHUNK):
        at = start + lane
        hit = tl.load(ids_ptr + at, mask=at < choices, other=-1) == mine
        rank = tl.cumsum(hit.to(tl.int32), axis=0)
        tl.store(sorted_ptr + place_base + rank - 1, at, mask=hit)
        place_base += tl.sum(hit.to(tl.int32))


def blocks_at_most(choices: int, num_experts: int, block_size: int) -> int:
    """Blocks that `choices` rows fill, however they fall on the experts."""
    used = min(choices, num_experts)
    return used + (choices - used) // block_size


def blocks_of(ids: torch.Tensor, num_experts: int, block_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fresh memory for the rows, the experts of blocks and the padded count."""
    most = blocks_at_most(ids.numel(), num_experts, block_size)
    counts = (most * block_size, most, 1)
    rows, expert_ids, padded = (torch.empty(count, dtype=torch.int32, device=ids.device) for count in counts)
    return rows, expert_ids, padded


def align_blocks(
    topk_ids: torch.Tensor, num_experts: int, block_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch the kernels; see MoeAlignBlockSize."""
    ids, choices = topk_ids.contiguous(), topk_ids.numel()
    rows, expert_ids, padded = blocks_of(ids, num_experts, block_size)
    experts_block = max(16, triton.next_power_of_2(num_experts))
    chunks = triton.cdiv(choices, COUNT_CHUNK)
    counted, counts = chunks > 1, padded
    chunk = max(16, triton.next_power_of_2(min(choices, 4 * COUNT_CHUNK)))
    if counted:
        counts = torch.empty((chunks, experts_block), dtype=torch.int32, device=ids.device)
        count_kernel[(chunks,)](ids, counts, choices, EXPERTS_BLOCK=experts_block, CHUNK=COUNT_CHUNK, num_warps=8)
    moe_align_kernel[(num_experts,)](
        ids, counts, rows, expert_ids, padded, choices, chunks, SIZE=block_size,
        SIZE_BLOCK=triton.next_power_of_2(block_size), EXPERTS_BLOCK=experts_block, CHUNK=chunk, COUNTED=counted,
        num_warps=max(1, min(16, chunk // 256)),
    )  # fmt: skip
    return rows, expert_ids, padded


align_blocks_op = torch.library.custom_op(f"fastkernels::{__name__.replace('.', '_')}", align_blocks, mutates_args=())
"""For torch.compile, where block sizes cannot follow a token count that varies; named after the module, since the
overlay imports it twice."""
align_blocks_op.register_fake(blocks_of)


class MoeAlignBlockSize(Op):
    """Rows of tokens in order of their expert, each expert's rows padded to a multiple of block_size.

    topk_ids: [T, top_k] int32, each 0 .. num_experts - 1; block_size: rows of a block -> (sorted_token_ids
    [B * block_size] int32, expert_ids [B] int32, num_tokens_post_padded [1] int32), B the most blocks that can be
    needed. Row t * top_k + k is the k-th choice of token t; T * top_k is padding. Blocks from num_tokens_post_padded on
    hold anything. Mirrors vLLM's moe_align_block_size with pad_sorted_ids.
    """

    provider = "triton"

    def __init__(self, num_experts: int) -> None:
        super().__init__()
        self.num_experts = num_experts

    def forward_native(
        self, topk_ids: torch.Tensor, block_size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Plain PyTorch: a stable sort; padding and -1 in the blocks that are not used."""
        flat, choices = topk_ids.flatten().long(), topk_ids.numel()
        most = blocks_at_most(choices, self.num_experts, block_size)
        expert = torch.arange(self.num_experts, device=flat.device)
        counts = (flat[:, None] == expert).sum(dim=0)
        ends = ((counts + block_size - 1) // block_size).cumsum(0)
        before = ends - (counts + block_size - 1) // block_size
        chosen, order = flat.sort(stable=True)
        within = torch.arange(choices, device=flat.device) - (counts.cumsum(0) - counts)[chosen]
        sorted_ids = torch.full((most * block_size,), choices, device=flat.device)
        sorted_ids[before[chosen] * block_size + within] = order
        block = torch.arange(most, device=flat.device)
        expert_ids = torch.where(block < ends[-1], torch.searchsorted(ends, block, right=True), -1)
        return sorted_ids.to(torch.int32), expert_ids.to(torch.int32), (ends[-1:] * block_size).to(torch.int32)

    def forward_cuda(self, topk_ids: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A program for each expert; above COUNT_CHUNK choices a second kernel counts them first."""
        align = align_blocks_op if torch.compiler.is_compiling() else align_blocks
        return align(topk_ids, self.num_experts, block_size)

    def canonical(
        self, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], inputs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Blocks in order of expert, rows within an expert in rising order, unused blocks as the native path's.

        A row that lies in a block of another expert stays there, and so differs.
        """
        sorted_ids, expert_ids, padded = outputs
        size = inputs["block_size"]
        block = torch.arange(expert_ids.numel(), device=expert_ids.device)
        used = block * size < padded
        expert = torch.where(used, expert_ids.long(), torch.iinfo(torch.int64).max)
        rows = torch.where(used.repeat_interleave(size), sorted_ids, inputs["topk_ids"].numel())
        by_row = rows.sort(stable=True).indices
        by_expert = expert.repeat_interleave(size)[by_row].sort(stable=True).indices
        return rows[by_row[by_expert]], torch.where(used, expert.sort().values, -1).to(expert_ids.dtype), padded

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads the ids, writes each row once with its block's expert; a comparison for each id."""
        ids, size = inputs["topk_ids"], inputs["block_size"]
        rows = ids.numel()
        return Work(bytes=tensor_bytes(ids, outputs[2]) + 4 * (rows + -(-rows // size)), flops=rows)
