"""Causal attention of prompts that are packed without padding."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

LOG2_E = 1.0 / math.log(2.0)
SCORES = 2**25
"""Scores that the native path holds at once."""


@triton.jit(do_not_specialize=["scale_log2e"])
def flash_attn_prefill_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, cu_q_ptr, cu_k_ptr, q_row, q_head, k_row, k_head, v_row, v_head, levels, scale_log2e,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M query rows of one head, online softmax in float32 (FlashAttention-2, Dao, 2023).

    Programs start with the rows that see the most keys. Key blocks wholly before the diagonal need no mask.
    """
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
        s = tl.where((column < k_len)[None, :] & (column[None, :] <= row[:, None] + shift), s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(s - base[:, None])
        fade = tl.exp2(top - base)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top
    y = acc * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]
    tl.store(out_ptr + q_at * (HEADS * D) + head * D + dim[None, :], y.to(out_ptr.dtype.element_ty), mask=in_row)


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
        """One Triton kernel."""
        del max_seqlen_k
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
        return self.launch_blocks(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q)

    def launch_blocks(self, query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, block_m=128, block_n=64,
                      num_warps=8, num_stages=2):
        """The portable kernel: any head size and float type."""
        tokens, heads, dim = query.shape
        sequences = cu_seqlens_q.shape[0] - 1
        out = torch.empty(tokens, heads, dim, dtype=query.dtype, device=query.device)
        levels = triton.cdiv(max_seqlen_q, block_m)
        flash_attn_prefill_kernel[(sequences * heads, levels)](
            query, key, value, out, cu_seqlens_q, cu_seqlens_k, *query.stride()[:2], *key.stride()[:2],
            *value.stride()[:2], levels, self.scale * LOG2_E, HEADS=heads, GROUP=heads // self.num_kv_heads, D=dim,
            BLOCK_D=max(16, triton.next_power_of_2(dim)), BLOCK_M=block_m, BLOCK_N=block_n, num_warps=num_warps,
            num_stages=num_stages,
        )  # fmt: skip
        return out

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
