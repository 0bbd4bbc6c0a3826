"""Mutants of the Triton and Gluon kernels and their launches, written by hand: what only CUDA runs."""
# ruff: noqa: E501  the baseline's own lines, and what stands in their place, are easier to compare unbroken

Row = tuple[str, str, str, str]
"""Module, kind, text that stands in it once, text that takes its place."""

ELEMENTWISE: tuple[Row, ...] = (
    ("L1.rms_norm", "wrong eps", "* (1.0 / HIDDEN) + eps)", "* (1.0 / HIDDEN) + 1e-5)"),
    ("L1.rms_norm", "wrong scale", "* (1.0 / HIDDEN) + eps)", "* (1.0 / BLOCK) + eps)"),
    ("L1.rms_norm", "dropped weight", "(x * scale * weight)", "(x * scale)"),
    ("L1.rms_norm", "dropped mask", "mask = in_row if BLOCK == HIDDEN else in_row & (col < HIDDEN)",
     "mask = in_row & (col < BLOCK)"),
    ("L1.rms_norm", "last row wrong", "in_row = row < rows if ROWS > 1 else", "in_row = row < rows - 1 if ROWS > 1 else"),
    ("L1.rms_norm", "missing residual",
     "x += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)", "pass"),
    ("L1.rms_norm", "missing residual", "if RESIDUAL and SUM_LAST:", "if False:"),
    ("L1.rms_norm", "lower precision", "(x * scale * weight).to(", "(x * scale * weight).to(tl.float8e4nv).to("),
    ("L1.rms_norm", "wrong stride", "outer * x_outer + within * x_inner + col, mask=mask, other=0.0).to(tl.float32)\n    if",
     "outer * HIDDEN + within * x_inner + col, mask=mask, other=0.0).to(tl.float32)\n    if"),
    ("L1.silu_and_mul", "swapped halves", "y = gate / (1.0 + tl.exp(-gate)) * up", "y = up / (1.0 + tl.exp(-up)) * gate"),
    ("L1.silu_and_mul", "wrong bound", "mask = col < WIDTH", "mask = col < WIDTH - 1"),
    ("L1.silu_and_mul", "wrong formula", "tl.exp(-gate)", "tl.exp(-1.702 * gate)"),
    ("L1.swigluoai_and_mul", "dropped bound", "gate = tl.where(gate > limit, limit, gate)", "pass"),
    ("L1.rotary_emb", "rope sign", "(a * cos - b * sin).to(dtype), (b * cos + a * sin).to(dtype)",
     "(a * cos + b * sin).to(dtype), (b * cos - a * sin).to(dtype)"),
    ("L1.rotary_emb", "wrong position", "position = tl.load(positions_ptr + token).to(tl.int64)",
     "position = tl.load(positions_ptr).to(tl.int64)"),
    ("L1.rotary_emb", "key not rotated",
     "store_rotated(k_ptrs, k_mask, k_first, k_second, cos, sin, KV_BLOCK, HALF, HALF_BLOCK, NEOX)", "pass"),
    ("L1.rotary_emb", "last head wrong", "(head < HEADS) & (dim <", "(head < HEADS - 1) & (dim <"),
    ("L1.moe_sum", "one expert skipped", "tl.static_range(TOP_K)", "tl.static_range(TOP_K - 1)"),
    ("L1.moe_sum", "wrong bound", "mask = col < WIDTH", "mask = col < WIDTH - 1"),
    ("L1.store_kvcache", "padding slot written", "mask = mask & (slot >= 0)", "mask = mask & (slot >= -1)"),
    ("L1.store_kvcache", "wrong row", "within = slot // page_size, slot % page_size",
     "within = slot // page_size, (slot + 1) % page_size"),
    ("L1.store_kvcache", "swapped operands", "values = tl.load(value_ptr", "values = tl.load(key_ptr"),
    ("L1.store_mla_cache", "padding slot written", "mask=token < tokens, other=-1)", "mask=token < tokens, other=0)"),
    ("L1.topk_softmax", "wrong normalisation", "weights if RENORMALIZE else exps", "exps"),
    ("L1.topk_softmax", "dropped mask", "ids = tl.where(slot == k, best, ids)", "ids = tl.where(slot >= k, best + 1, ids)"),
    ("L1.grouped_topk", "dropped scaling", "weights * scale, mask=in_slot", "weights, mask=in_slot"),
    ("L1.grouped_topk", "dropped mask", 'choice = tl.where(kept, choice, float("-inf"))', "pass"),
    ("L1.moe_align", "one expert skipped", "at, mask=hit)", "at, mask=hit & (mine > 0))"),
)  # fmt: skip

PRODUCTS: tuple[Row, ...] = tuple(("L1.moe_grouped_gemm", *rest) for rest in (
    ("dropped bias", "if HAS_BIAS:", "if False:"),
    ("dropped weight", "if SCALED:", "if False:"),
    ("wrong expert", "expert = tl.load(expert_ids_ptr + m_block).to(tl.int64)",
     "expert = tl.load(expert_ids_ptr).to(tl.int64)"),
    ("wrong row", "(tl.where(row < rows, row, 0) // TOP_K)", "(tl.where(row < rows, row, 0) // (TOP_K + 1))"),
    ("wrong bound", "in_column = n < outer", "in_column = n < outer - 1"),
    ("wrong bound", "m_blocks = tl.load(padded_ptr) // BLOCK_M if SORTED", "m_blocks = tl.load(padded_ptr) // BLOCK_M - 1 if SORTED"),
    ("wrong bound", "first = (expert * outer + column).to(tl.int32)", "first = (expert * outer + column + 1).to(tl.int32)"),
))  # fmt: skip

ATTENTION: tuple[Row, ...] = tuple(("L1.flash_attn_decode", *rest) for rest in (
    ("stale page", "page = tl.load(pages + at // PAGE,", "page = tl.load(pages + at * 0,"),
    ("stale page", "pages = table_ptr + seq.to(tl.int64) * table_row", "pages = table_ptr"),
    ("window off by one", "begin = tl.maximum(used - WINDOW, 0)", "begin = tl.maximum(used - WINDOW - 1, 0)"),
    ("last key missed", "last = tl.minimum(first + share, used)", "last = tl.minimum(first + share, used - 1)"),
    ("sink dropped", "if sinks_ptr is not None and not PARTIAL:", "if False:"),
    ("sink dropped", "sinks, out, splits, HEADS=heads", "None, out, splits, HEADS=heads"),
    ("dropped mask", 's = tl.where(inside[None, :], s, float("-inf"))', "pass"),
    ("swapped heads", "head = kv_head * GROUP + lane", "head = lane * KV_HEADS + kv_head"),
    ("wrong scale", "self.scale * LOG2_E.value", "self.scale"),
    ("dropped split", "mask=split < splits, other=float(\"-inf\"))", "mask=split < splits - 1, other=float(\"-inf\"))"),
    ("dropped rescaling", "total = total * fade + tl.sum(weight, axis=1)", "total = total + tl.sum(weight, axis=1)"),
)) + tuple(("L1.flash_attn_prefill", *rest) for rest in (
    ("mask off by one", "seen = keys[None, :] <= last[:, None]\n", "seen = keys[None, :] <= last[:, None] + 1\n"),
    ("window off by one", "(keys[None, :] > last[:, None] - WINDOW)", "(keys[None, :] >= last[:, None] - WINDOW)"),
    ("mask off by one", "seen_by_row = column[None, :] <= row[:, None] + shift\n",
     "seen_by_row = column[None, :] <= row[:, None] + shift + 1\n"),
    ("sink dropped", "sums += gl.convert_layout(sink, sums.type.layout)", "pass"),
    ("dropped rescaling", "return weight, acc * gl.convert_layout(fade, gl.SliceLayout(1, O_LAYOUT))[:, None], new_top, total",
     "return weight, acc, new_top, total"),
    ("wrong bound", "mask=(out_at < q_len)[:, None])", "mask=(out_at < q_len - 1)[:, None])"),
    ("dropped borders", "(column * DV + dim)[None, :], y, mask=(out_at < q_len)[:, None])",
     "(column * DV + dim)[None, :], y)"),
    ("last keys skipped", "(blocks - lowest + SPLITS - 1) // SPLITS", "(blocks - lowest) // SPLITS"),
    ("wrong split", "        at = first + split * HEADS\n", "        at = first\n"),
    ("dropped weight", "total += weight\n        acc +=", "total += 1.0\n        acc +="),
))  # fmt: skip

KERNELS = (*ELEMENTWISE, *PRODUCTS, *ATTENTION)
"""All of them."""
