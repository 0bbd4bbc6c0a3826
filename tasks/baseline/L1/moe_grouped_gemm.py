"""Products of tokens with the weights of their experts, a block of one expert's rows at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastkernels.runtime.jit import TileDescriptor, tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

TENSOR_MAPS = TileDescriptor is not None
"""Whether weights may be read by the copy engine of compute capability 9 and above."""


@triton.jit(do_not_specialize=["rows", "group_m"])
def moe_grouped_gemm_kernel(
    x_ptr, weight, bias_ptr, out_ptr, sorted_ptr, expert_ids_ptr, padded_ptr, scale_ptr, rows, x_row, outer, inner,
    weight_expert, weight_row, group_m, TOP_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, SORTED: tl.constexpr, WHOLE_K: tl.constexpr, HAS_BIAS: tl.constexpr, SCALED: tl.constexpr,
    TENSOR_MAP: tl.constexpr,
):
    """out[r] = (x[r // TOP_K] weight[e].T + bias[e]) scale[r] for a block of BLOCK_M rows r of expert e.

    Programs take group_m blocks of rows before the next BLOCK_N columns, so that the blocks of an expert meet its
    weights in the L2 cache. Those past the last block in use end at once. Without SORTED block r holds row r alone.
    """
    program = tl.program_id(0)
    m_blocks = tl.load(padded_ptr) // BLOCK_M if SORTED else rows
    n_blocks = tl.cdiv(outer, BLOCK_N)
    if program >= m_blocks * n_blocks:
        return
    first_m = program // (group_m * n_blocks) * group_m
    group_size = tl.minimum(m_blocks - first_m, group_m)
    in_group = program - first_m * n_blocks
    m_block = first_m + in_group % group_size
    column = in_group // group_size * BLOCK_N
    expert = tl.load(expert_ids_ptr + m_block).to(tl.int64)
    lane = tl.arange(0, BLOCK_M)
    row = tl.load(sorted_ptr + m_block * BLOCK_M + lane) if SORTED else tl.where(lane == 0, m_block, rows)
    in_row = (row < rows)[:, None]
    k = tl.arange(0, BLOCK_K)
    n = column + tl.arange(0, BLOCK_N)
    in_column = n < outer
    x_at = x_ptr + (tl.where(row < rows, row, 0) // TOP_K).to(tl.int64)[:, None] * x_row + k[None, :]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if TENSOR_MAP:
        first = (expert * outer + column).to(tl.int32)
        for start in range(0, inner, BLOCK_K):
            x = tl.load(x_at + start, mask=in_row if WHOLE_K else in_row & (k < inner - start)[None, :], other=0.0)
            acc = tl.dot(x, weight.load([first, start]).T, acc, input_precision="ieee")
    else:
        w_at = weight + expert * weight_expert + n.to(tl.int64)[None, :] * weight_row + k[:, None]
        for start in range(0, inner, BLOCK_K):
            in_k = k < inner - start
            x = tl.load(x_at + start, mask=in_row if WHOLE_K else in_row & in_k[None, :], other=0.0)
            in_weight = in_column[None, :] if WHOLE_K else in_column[None, :] & in_k[:, None]
            acc = tl.dot(x, tl.load(w_at + start, mask=in_weight, other=0.0), acc, input_precision="ieee")
    if HAS_BIAS:
        acc += tl.load(bias_ptr + expert * outer + n, mask=in_column, other=0.0).to(tl.float32)[None, :]
    if SCALED:
        acc *= tl.load(scale_ptr + row, mask=row < rows, other=0.0).to(tl.float32)[:, None]
    out_at = out_ptr + row.to(tl.int64)[:, None] * outer + n[None, :]
    tl.store(out_at, acc.to(out_ptr.dtype.element_ty), mask=in_row & in_column[None, :])


@dataclass(frozen=True)
class Tile:
    """How a launch divides the work."""

    block_n: int
    """Output columns of a program."""
    block_k: int
    """Inner dimension of one step."""
    group_m: int
    """Blocks of rows that run before the next columns."""
    num_warps: int
    """Warps of a program."""
    num_stages: int
    """Steps whose operands are on their way."""


def choose_tile(block_m: int, inner: int, element_size: int) -> Tile:
    """The division for blocks of block_m rows.

    From a sweep on an H200 in bf16 (benchmarks/moe_anchors.py --sweep) over Mixtral-8x7B and Qwen3-30B-A3B at 1 to 4096
    tokens: least mean slowdown against each product's own best tile, 1.01 to 1.03.
    """
    if element_size > 2:
        return Tile(64, 32, 8, 4, 2)
    if block_m <= 16:
        steps = {256: 3, 128: 4, 64: 5}
        block_k = next((size for size in steps if inner % size == 0), 64)
        return Tile(64, block_k, 1, 4, steps[block_k])
    if block_m <= 32:
        return Tile(128, 64, 1, 4, 4)
    if block_m <= 64:
        return Tile(64, 128, 1, 4, 3) if inner >= 4096 else Tile(128, 64, 8, 4, 3)
    return Tile(256, 64, 32, 8, 4) if block_m <= 128 else Tile(128, 64, 8, 8, 3)


def copies_by_tensor_map(weight: torch.Tensor) -> bool:
    """Whether the copy engine can read [E, N, K] weights as rows of K elements."""
    capable = not weight.is_cuda or torch.cuda.get_device_capability(weight.device) >= (9, 0)
    in_reach = weight.shape[0] * weight.shape[1] < 2**31 and weight.shape[2] * weight.element_size() % 16 == 0
    return TENSOR_MAPS and capable and in_reach and weight.is_contiguous() and weight.data_ptr() % 16 == 0


def launch_tiles(
    x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, sorted_ids: torch.Tensor | None,
    expert_ids: torch.Tensor, padded: torch.Tensor | None, scale: torch.Tensor | None, bias: torch.Tensor | None,
    top_k: int, tile: Tile, by_map: bool,
) -> None:  # fmt: skip
    """A program for each block of rows and columns that there can be."""
    blocks, (_, outer, inner) = expert_ids.shape[0], weight.shape
    block_m = 16 if sorted_ids is None else sorted_ids.shape[0] // blocks
    rows = out.shape[0]
    weights: Any = weight
    if by_map:
        flat = [weight.shape[0] * outer, inner]
        weights = TileDescriptor(weight, flat, [inner, 1], [tile.block_n, tile.block_k])
    moe_grouped_gemm_kernel[(blocks * triton.cdiv(outer, tile.block_n),)](
        x, weights, weight if bias is None else bias, out, expert_ids if sorted_ids is None else sorted_ids,
        expert_ids, expert_ids if padded is None else padded, x if scale is None else scale, rows, x.stride(0), outer,
        inner, weight.stride(0), weight.stride(1), tile.group_m, TOP_K=top_k, BLOCK_M=block_m, BLOCK_N=tile.block_n,
        BLOCK_K=tile.block_k, SORTED=sorted_ids is not None,
        WHOLE_K=inner % tile.block_k == 0, HAS_BIAS=bias is not None, SCALED=scale is not None, TENSOR_MAP=by_map,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip


def multiply_by_expert(
    x: torch.Tensor, weight: torch.Tensor, sorted_ids: torch.Tensor | None, expert_ids: torch.Tensor,
    padded: torch.Tensor | None, scale: torch.Tensor | None, bias: torch.Tensor | None, top_k: int,
) -> torch.Tensor:  # fmt: skip
    """Products of x [T, K] with weight [E, N, K] -> [T * top_k, N]; see MoeGroupedGemm."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    out = torch.empty((x.shape[0] * top_k, weight.shape[1]), dtype=x.dtype, device=x.device)
    if out.numel():
        block_m = 16 if sorted_ids is None else sorted_ids.shape[0] // expert_ids.shape[0]
        tile = choose_tile(block_m, weight.shape[2], x.element_size())
        launch_tiles(
            x, weight, out, sorted_ids, expert_ids, padded, scale, bias, top_k, tile, copies_by_tensor_map(weight)
        )
    return out


multiply_by_expert_op = torch.library.custom_op(
    f"fastkernels::{__name__.replace('.', '_')}", multiply_by_expert, mutates_args=()
)
"""For torch.compile, which cannot trace tensor maps; named after the module, since the overlay imports it twice."""


@multiply_by_expert_op.register_fake
def like_rows(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
    """Shape and dtype of the result."""
    return x.new_empty((x.shape[0] * rest[-1], weight.shape[1]))


class MoeGroupedGemm(Op):
    """y[r] = x[r // top_k] weight[e(r)].T + bias[e(r)], times topk_weights[r] where given; e(r) is row r's expert.

    x: [T, input_size]; sorted_token_ids [B * block_size] and expert_ids [B], num_tokens_post_padded [1], all int32, as
    MoeAlignBlockSize orders rows 0 .. T * top_k - 1 -> [T * top_k, output_size], new memory. topk_weights: float32 of
    T * top_k elements. sorted_token_ids None: expert_ids [T * top_k] names the expert of each row, in order; for calls
    of few rows, whose blocks would hold one row each anyhow. weight: [num_experts, output_size, input_size]; bias:
    [num_experts, output_size]. Sums in float32, rounded once. As the kernel that vLLM's fused_experts calls twice:
    first with the layer's top_k, then with top_k 1 on the activation's rows.
    """

    provider = "triton"

    def __init__(
        self, num_experts: int, input_size: int, output_size: int, top_k: int = 1, bias: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_experts = num_experts
        self.input_size = input_size
        self.output_size = output_size
        self.top_k = top_k
        dtype = dtype or torch.get_default_dtype()
        weight = torch.empty(num_experts, output_size, input_size, dtype=dtype)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -(input_size**-0.5), input_size**-0.5))
        self.bias = nn.Parameter(torch.zeros(num_experts, output_size, dtype=dtype)) if bias else None

    def forward_native(
        self, x: torch.Tensor, sorted_token_ids: torch.Tensor | None, expert_ids: torch.Tensor,
        num_tokens_post_padded: torch.Tensor | None = None, topk_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Plain PyTorch, in float32 or better: the rows of one expert after the other."""
        rows = x.shape[0] * self.top_k
        wide = torch.promote_types(x.dtype, torch.float32)
        out = torch.zeros(rows, self.output_size, dtype=x.dtype, device=x.device)
        for expert, places in rows_of_experts(rows, sorted_token_ids, expert_ids, num_tokens_post_padded):
            y = x[places // self.top_k].to(wide) @ self.weight[expert].to(wide).T
            if self.bias is not None:
                y = y + self.bias[expert].to(wide)
            if topk_weights is not None:
                y = y * topk_weights.flatten()[places, None].to(wide)
            out[places] = y.to(x.dtype)
        return out

    def forward_cuda(
        self, x: torch.Tensor, sorted_token_ids: torch.Tensor | None, expert_ids: torch.Tensor,
        num_tokens_post_padded: torch.Tensor | None = None, topk_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """One Triton kernel; weights come through tensor maps on Hopper."""
        multiply = multiply_by_expert_op if torch.compiler.is_compiling() else multiply_by_expert
        scale = None if topk_weights is None else topk_weights.contiguous()
        return multiply(
            x, self.weight, sorted_token_ids, expert_ids, num_tokens_post_padded, scale, self.bias, self.top_k
        )

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads x and the weights of the experts that have rows, writes y; a multiply-add for each row and weight."""
        rows = outputs[0].shape[0]
        ids = (inputs["sorted_token_ids"], inputs["expert_ids"], inputs.get("num_tokens_post_padded"))
        experts = len(list(rows_of_experts(rows, *ids)))
        one = tensor_bytes(self.weight, self.bias) // self.num_experts
        moved = tensor_bytes(inputs["x"], inputs.get("topk_weights"), *outputs) + 4 * rows + experts * one
        return Work(bytes=moved, flops=2 * rows * self.input_size * self.output_size)


def rows_of_experts(
    rows: int, sorted_ids: torch.Tensor | None, expert_ids: torch.Tensor, padded: torch.Tensor | None
) -> list[tuple[int, torch.Tensor]]:
    """(expert, its rows) for every expert that has rows."""
    if sorted_ids is None:
        owner, places = expert_ids.flatten(), torch.arange(rows, device=expert_ids.device)
    else:
        assert padded is not None
        used, size = int(padded), sorted_ids.shape[0] // max(1, expert_ids.shape[0])
        owner, places = expert_ids.repeat_interleave(size)[:used], sorted_ids[:used].long()
        owner, places = owner[places < rows], places[places < rows]
    return [(expert, places[owner == expert]) for expert in owner.unique().tolist()]
