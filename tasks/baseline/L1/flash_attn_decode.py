"""Attention of one new token a sequence over a paged KV cache; with a window, sinks and a soft cap where asked for."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

LOG2_E = tl.constexpr(1.0 / math.log(2.0))
BLOCK_N = 64
"""Keys that one step of the kernel reads."""
WAVES = 4
"""Programs that are aimed at for each multiprocessor."""
BALANCED_KEYS = 1024
"""Keys of a split at most, where one split a sequence would not fill the device: with more, a batch of unequal lengths
waits for its longest (32 sequences of 1 to 8192 tokens on an H200: 178 us in 2 splits, 154 in 8; all of 8192: 253 and
259)."""
MAX_SPLITS = 128
"""At most this many splits, so that one program can join them."""
UNSPLIT_BLOCKS = 4
"""A window of at most as many blocks is not split: one more kernel costs more than reading them in turn."""


@triton.jit
def cap_scores(s, CAP: tl.constexpr):
    """CAP tanh(s / CAP), all of it in base 2: within 3e-7 CAP."""
    return CAP * (1.0 - 2.0 / (1.0 + tl.exp2(s * (2.0 * LOG2_E / CAP))))


@triton.jit(do_not_specialize=["splits", "table_row", "scale_log2e"])
def flash_attn_decode_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, used_ptr, sinks_ptr, out_ptr, part_ptr, lse_ptr, q_row, q_head, k_page, k_slot,
    k_head, v_page, v_slot, v_head, table_row, splits, scale_log2e, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
    D: tl.constexpr, PAGE: tl.constexpr, PARTIAL: tl.constexpr, WINDOW: tl.constexpr, CAP: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """One split of one sequence's context for the GROUP query heads of a KV head, online softmax in float32.

    Without PARTIAL writes the output; else the split's own softmax output to part [B, Hq, splits, D] and the
    logarithm (base 2) of its sum to lse [B, Hq, splits], which flash_attn_combine_kernel joins and adds the sinks to.
    With a WINDOW only the pages of the last WINDOW tokens are looked up. CAP: soft cap times log2(e). 0: none of them.
    """
    scale_log2e = tl.cast(scale_log2e, tl.float32)  # torch.compile passes float64
    kv_head = tl.program_id(0) % KV_HEADS
    split = (tl.program_id(0) // KV_HEADS) % splits
    seq = tl.program_id(0) // (KV_HEADS * splits)
    used = tl.load(used_ptr + seq)
    begin = 0
    if WINDOW > 0:
        begin = tl.maximum(used - WINDOW, 0)
    blocks = (used - begin + BLOCK_N - 1) // BLOCK_N
    share = (blocks + splits - 1) // splits * BLOCK_N
    first = begin + split * share
    last = tl.minimum(first + share, used)
    lane = tl.arange(0, BLOCK_H)
    dim = tl.arange(0, BLOCK_D)
    head = kv_head * GROUP + lane
    real = (lane < GROUP)[:, None] & (dim < D)[None, :]
    q = tl.load(q_ptr + seq.to(tl.int64) * q_row + head[:, None] * q_head + dim[None, :], mask=real, other=0.0)
    top = tl.full([BLOCK_H], float("-inf"), tl.float32)
    total = tl.full([BLOCK_H], 0.0, tl.float32)
    acc = tl.full([BLOCK_H, BLOCK_D], 0.0, tl.float32)
    pages = table_ptr + seq.to(tl.int64) * table_row
    for start in range(first, last, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        inside = at < last
        page = tl.load(pages + at // PAGE, mask=inside, other=0).to(tl.int64)
        wanted = inside[:, None] & (dim < D)[None, :]
        k_at = page * k_page + (at % PAGE) * k_slot + kv_head * k_head
        k = tl.load(k_ptr + k_at[:, None] + dim[None, :], mask=wanted, other=0.0)
        v_at = page * v_page + (at % PAGE) * v_slot + kv_head * v_head
        v = tl.load(v_ptr + v_at[:, None] + dim[None, :], mask=wanted, other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2e
        if CAP > 0:
            s = cap_scores(s, CAP)
        s = tl.where(inside[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        weight = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weight, axis=1)
        acc = tl.dot(weight.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top
    if sinks_ptr is not None and not PARTIAL:
        sink = tl.load(sinks_ptr + head, mask=lane < GROUP, other=0.0).to(tl.float32) * LOG2_E
        total += tl.exp2(sink - tl.where(top == float("-inf"), 0.0, top))
    y = acc * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]
    row = seq.to(tl.int64) * (KV_HEADS * GROUP) + head
    if not PARTIAL:
        tl.store(out_ptr + row[:, None] * D + dim[None, :], y.to(out_ptr.dtype.element_ty), mask=real)
    else:
        part = row * splits + split
        tl.store(part_ptr + part[:, None] * D + dim[None, :], y, mask=real)
        tl.store(lse_ptr + part, top + tl.log2(tl.where(total > 0.0, total, 1.0)), mask=lane < GROUP)


@triton.jit(do_not_specialize=["splits"])
def flash_attn_combine_kernel(
    part_ptr, lse_ptr, sinks_ptr, out_ptr, splits, HEADS: tl.constexpr, BLOCK_S: tl.constexpr, D: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """out = sum_s 2^(lse_s - lse) part_s for one row of [B * HEADS]; zeros where every split is empty.

    A sink adds its exponential to the denominator.
    """
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, BLOCK_S)
    dim = tl.arange(0, BLOCK_D)
    lse = tl.load(lse_ptr + row * splits + split, mask=split < splits, other=float("-inf"))
    real = (split < splits)[:, None] & (dim < D)[None, :]
    part = tl.load(part_ptr + (row * splits + split)[:, None] * D + dim[None, :], mask=real, other=0.0)
    top = tl.max(lse, axis=0)
    weight = tl.exp2(lse - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(weight, axis=0)
    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + row % HEADS).to(tl.float32) * LOG2_E
        total += tl.exp2(sink - tl.where(top == float("-inf"), 0.0, top))
    y = tl.sum(part * weight[:, None], axis=0) * tl.where(total > 0.0, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)
    tl.store(out_ptr + row * D + dim, y.to(out_ptr.dtype.element_ty), mask=dim < D)


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a CUDA device; elsewhere (Triton's interpreter) 1."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def split_count(batch: int, kv_heads: int, max_seqlen_k: int, processors: int, window: int = 0) -> int:
    """Splits of each context: whole waves of programs, each with BLOCK_N keys or more; known without the device."""
    waves = WAVES * processors // max(1, batch * kv_heads)
    keys = min(window, max_seqlen_k) if window else max_seqlen_k
    blocks = -(-keys // BLOCK_N)
    if waves:
        waves = max(waves, -(-keys // BALANCED_KEYS))
    return 1 if window and blocks <= UNSPLIT_BLOCKS else max(1, min(waves, blocks, MAX_SPLITS))


class FlashAttnDecode(Op):
    """softmax(scale q K^T) V of one token a sequence, keys and values in pages (Flash-Decoding, Dao et al., 2023).

    query: [B, Hq, D], key_cache and value_cache: [pages, page_size, Hkv, D], block_table: [B, P] int32 (page of the
    sequence's tokens p * page_size ...), seqused_k: [B] int32 (tokens in the cache, the new one included; 0 gives a
    row of zeros), max_seqlen_k: at least every seqused_k; sinks: [Hq] -> [B, Hq, D]. Query head h reads KV head
    h // (Hq / Hkv). With `sliding_window` only the last so many tokens of a sequence count, the new one included. With
    `logits_soft_cap` c a scaled score s becomes c tanh(s / c) (Gemma 2, 2024). A sink is one more logit of its head's
    softmax, unscaled and without a value (Xiao et al., 2024, as gpt-oss learns it). Entries of block_table beyond a
    sequence's last page, or of pages before the window, are not followed. Inputs are not changed. As vLLM's
    flash_attn_varlen_func with max_seqlen_q = 1, window_size = (sliding_window - 1, 0), softcap = logits_soft_cap and
    s_aux = sinks.
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
        self, query: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, block_table: torch.Tensor,
        seqused_k: torch.Tensor, max_seqlen_k: int, sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Plain PyTorch, a sequence at a time, in float32 or better."""
        del max_seqlen_k
        wide = torch.promote_types(query.dtype, torch.float32)
        out = torch.zeros_like(query)
        for seq, used in enumerate(seqused_k.tolist()):
            page_size, begin = key_cache.shape[1], self.begin(used)
            pages = block_table[seq, begin // page_size : -(-used // page_size)].long()
            seen = slice(begin % page_size, begin % page_size + used - begin)
            keys, values = (cache[pages].flatten(0, 1)[seen].to(wide) for cache in (key_cache, value_cache))
            q = query[seq].to(wide).view(self.num_kv_heads, -1, self.head_size)
            scores = torch.matmul(q, keys.permute(1, 2, 0)) * self.scale
            if self.logits_soft_cap is not None:
                scores = torch.tanh(scores / self.logits_soft_cap) * self.logits_soft_cap
            if sinks is not None:
                scores = torch.cat((scores, sinks.to(wide).view(self.num_kv_heads, -1, 1)), dim=-1)
            y = torch.matmul(torch.softmax(scores, dim=-1)[..., : used - begin], values.transpose(0, 1))
            out[seq] = y.reshape(self.num_heads, self.head_size).to(query.dtype)
        return out

    def begin(self, used: int) -> int:
        """The first of a sequence's `used` tokens that counts."""
        return max(0, used - self.sliding_window) if self.sliding_window else 0

    def forward_cuda(
        self, query: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, block_table: torch.Tensor,
        seqused_k: torch.Tensor, max_seqlen_k: int, sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Split-KV Triton kernel, and a second one that joins the splits where there are several."""
        query = query if query.stride(-1) == 1 else query.contiguous()
        caches = (x if x.stride(-1) == 1 else x.contiguous() for x in (key_cache, value_cache))
        # A window that hides nothing is none, so that such calls share one kernel.
        window = self.sliding_window if self.sliding_window and self.sliding_window < max_seqlen_k else 0
        splits = split_count(query.shape[0], self.num_kv_heads, max_seqlen_k, processors(query.device), window)
        return self.launch(query, *caches, block_table, seqused_k, sinks, splits, window)

    def launch(
        self, query: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, block_table: torch.Tensor,
        seqused_k: torch.Tensor, sinks: torch.Tensor | None, splits: int, window: int,
    ) -> torch.Tensor:  # fmt: skip
        """Attention with each context, or the window of it, in this many splits."""
        batch, heads, dim = query.shape
        out = torch.empty(batch, heads, dim, dtype=query.dtype, device=query.device)
        part, lse = out, out
        if splits > 1:
            part = torch.empty(batch, heads, splits, dim, dtype=torch.float32, device=query.device)
            lse = torch.empty(batch, heads, splits, dtype=torch.float32, device=query.device)
        group, wide = heads // self.num_kv_heads, query.element_size() * dim > 256
        flash_attn_decode_kernel[(batch * self.num_kv_heads * splits,)](
            query, key_cache, value_cache, block_table, seqused_k, sinks, out, part, lse, *query.stride()[:2],
            *key_cache.stride()[:3], *value_cache.stride()[:3], block_table.stride(0), splits,
            self.scale * LOG2_E.value, KV_HEADS=self.num_kv_heads, GROUP=group, D=dim, PAGE=key_cache.shape[1],
            PARTIAL=splits > 1, WINDOW=window, CAP=(self.logits_soft_cap or 0.0) * LOG2_E.value,
            BLOCK_H=max(16, triton.next_power_of_2(group)),
            BLOCK_D=max(16, triton.next_power_of_2(dim)), BLOCK_N=BLOCK_N // 2 if wide else BLOCK_N, num_warps=4,
            num_stages=3,
        )  # fmt: skip
        if splits > 1:
            flash_attn_combine_kernel[(batch * heads,)](
                part, lse, sinks, out, splits, HEADS=heads, BLOCK_S=triton.next_power_of_2(splits), D=dim,
                BLOCK_D=triton.next_power_of_2(dim), num_warps=4,
            )  # fmt: skip
        return out

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """A slice of the fused projection, rotated in place."""
        del inputs
        return ("query",)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Each key and value that counts read once, queries and outputs once; four operations a key, head, channel."""
        used, page_size = inputs["seqused_k"].long(), inputs["key_cache"].shape[1]
        begin = (used - self.sliding_window).clamp(min=0) if self.sliding_window else torch.zeros_like(used)
        seen = int((used - begin).sum())
        pages = int(((used + page_size - 1) // page_size - begin // page_size).sum())
        per_token = 2 * self.num_kv_heads * self.head_size * inputs["key_cache"].element_size()
        moved = seen * per_token + pages * inputs["block_table"].element_size()
        others = tensor_bytes(inputs["query"], inputs["seqused_k"], inputs.get("sinks"), *outputs)
        return Work(bytes=moved + others, flops=4 * seen * self.num_heads * self.head_size)
