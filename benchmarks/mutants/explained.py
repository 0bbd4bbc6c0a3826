"""Why the mutants survive that do: most compute the same as the original, some what no tolerance can tell from it."""
# ruff: noqa: E501  names of mutants are lines of the baseline, which are easier to find unbroken

from dataclasses import dataclass

EQUIVALENT = ("equal", "unreachable", "allowed")
"""Reasons by which a mutant is no wrong kernel: it does not count in the score. All others count as not caught."""


@dataclass(frozen=True)
class Explained:
    """Why one mutant survives."""

    reason: str
    """`equal`: the same outputs for all inputs that the operator is defined for; `unreachable`: the change shows only
    for a value that no model has, or that the manifest's generator refuses; `allowed`: another right answer, as the
    operator's `canonical` or docs/correctness.md has it; `tolerance`: another number, within what rounding may do;
    `coverage`: no scenario has what would show it."""
    text: str
    """In words."""


PROMOTED = Explained("equal", "The sum, the product or the join with a float32 tensor makes it float32 anyhow.")
STORED = Explained("equal", "The assignment into the output rounds as the conversion did.")
BLOCKING = Explained("equal", "Only how many rows are computed at once changes.")
COMMUTES = Explained("equal", "A sum of two, or the lesser of two, in the other order.")
ONE_PART = Explained("equal", "A join of one part is that part.")
LAYOUT = Explained("equal", "Only the order of rows and the size of their blocks change, not what is summed.")
SAME_DTYPE = Explained("unreachable", "Shows where a cache has another dtype than what is stored; no model's has.")
TIES = Explained("allowed", "Ties may be settled either way.")
ONCE_MORE = Explained("allowed", "Rounds once or twice more than the baseline, as honest kernels do.")
BOTH_FORMS = Explained("allowed", "GELU's two forms are at most 0.0005 apart, far less than what bfloat16 is allowed.")
ERROR_ONLY = Explained("allowed", "Widens what rounding is allowed, which a candidate does not say.")
ALL_GROUPS = Explained("equal", "Where all groups are kept the mask hides none.")
ANY_ORDER = Explained("allowed", "Rows of one expert may stand in any order; `canonical` sorts them.")
NOT_BUILT_SO = Explained(
    "unreachable", "No model builds a layer with this option, and the generator writes no scenario of it."
)

EXPLAINED: dict[str, Explained] = {
    "L1.swigluoai_and_mul wrong bound: gate = wide[..., 0::2].clamp(max=self.limit) => gate = wide[..., 0::2].clamp(min=-self.limit, max=self.limit)":
        Explained("tolerance", "Below -7 gate * sigmoid(1.702 gate) is under 5e-5: outputs differ by less than 4e-4, beside others of unit scale in their row."),
    "L1.moe_align wrong padding: expert_ids = torch.where(block < ends[-1], torch.searchsorted(ends, block, right=True), -1) => expert_ids = torch.where(block < ends[-1], torch.searchsorted(ends, block, right=True), 0)":
        Explained("allowed", "Blocks after the last in use are not read; `canonical` takes anything there."),
    'L2.parallel_linear wrong shard: start, size = {"q": (0, q), "k": (q, kv), "v": (q + kv, kv)}[part] => start, size = {"q": (0, q), "v": (q, kv), "k": (q + kv, kv)}[part]':
        Explained("coverage", "Loaders of checkpoints are not called: both sides are given the same weights under the parameters' names."),
    "L1.flash_attn_decode forward_native: scores = torch.cat((scores, sinks.to(wide).view(self.num_kv_heads, -1, 1)), dim=-1) => scores = torch.cat((scores, sinks.view(self.num_kv_heads, -1, 1)), dim=-1)":
        PROMOTED,
    "L1.flash_attn_decode forward_native: out[seq] = y.reshape(self.num_heads, self.head_size).to(query.dtype) => out[seq] = y.reshape(self.num_heads, self.head_size)":
        STORED,
    "L1.flash_attn_prefill forward_native: rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0))) => rows = max(2, SCORES // (self.num_heads * max(1, k1 - k0)))":
        BLOCKING,
    "L1.flash_attn_prefill forward_native: rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0))) => rows = max(1, SCORES // (self.num_heads * max(2, k1 - k0)))":
        BLOCKING,
    "L1.flash_attn_prefill forward_native: if seen > k0: => if seen >= k0:":
        Explained("equal", "A block whose last row sees no key comes to zeros in `attend` as well."),
    "L1.flash_attn_prefill forward_native: low = max(0, shift + 1 - self.sliding_window) if self.sliding_window else 0 => low = max(0, shift + 1 - self.sliding_window) if False else 0":
        Explained("equal", "Keys before the window are read and then masked."),
    "L1.flash_attn_prefill attend: logit = sinks.to(wide).view(self.num_kv_heads, -1, 1, 1).expand(-1, -1, rows, -1) => logit = sinks.view(self.num_kv_heads, -1, 1, 1).expand(-1, -1, rows, -1)":
        PROMOTED,
    "L1.flash_attn_prefill attend: weights = torch.softmax(scores, dim=-1)[..., :keys].masked_fill(row + shift < 0, 0.0) => weights = torch.softmax(scores, dim=-1)[..., :keys]":
        Explained("coverage", "Only rows that see no key differ; no draw has fewer keys than queries."),
    'L1.gelu wrong formula: return F.gelu(wide, approximate=self.approximate).to(x.dtype) => return F.gelu(wide, approximate="none").to(x.dtype)':
        BOTH_FORMS,
    "L1.gelu forward_native: return F.gelu(wide, approximate=self.approximate).to(x.dtype) => return F.gelu(wide).to(x.dtype)":
        BOTH_FORMS,
    "L1.gelu forward_native: wide = x.to(torch.promote_types(x.dtype, torch.float32)) => wide = x":
        ONCE_MORE,
    "L1.layer_norm _normed: bias = self.bias.to(wide) if with_bias else None => bias = self.bias.to(wide) if True else None":
        ERROR_ONLY,
    "L1.layer_norm _normed: return F.layer_norm(x.to(wide), (self.normalized_shape,), self.weight.to(wide), bias, self.eps) => return F.layer_norm(x, (self.normalized_shape,), self.weight.to(wide), bias, self.eps)":
        ONCE_MORE,
    "L1.gelu_and_mul forward_native: gate, up = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1) => gate, up = x.chunk(2, dim=-1)":
        ONCE_MORE,
    "L1.gemma_rms_norm forward_native: wide = wide + residual.to(wide.dtype) => wide = wide + residual": PROMOTED,
    "L1.gemma_rms_norm forward_native: normed = (wide * scale * (1.0 + self.weight.to(wide.dtype))).to(x.dtype) => normed = (wide * scale * (1.0 + self.weight)).to(x.dtype)":
        ONCE_MORE,
    "L1.grouped_topk forward_native: choice = scores + e_score_correction_bias.to(scores.dtype) if biased else scores => choice = scores + e_score_correction_bias if biased else scores":
        Explained("equal", "Both are float32."),
    "L1.grouped_topk forward_native: if self.topk_group < self.num_expert_group: => if True:": ALL_GROUPS,
    "L1.grouped_topk forward_native: if self.topk_group < self.num_expert_group: => if self.topk_group <= self.num_expert_group:":
        ALL_GROUPS,
    "L1.grouped_topk forward_native: order = self.group_ranks(choice, biased).sort(dim=-1, descending=True, stable=True).indices => order = self.group_ranks(choice, biased).sort(dim=-1, descending=True, stable=False).indices":
        TIES,
    "L1.grouped_topk forward_native: ids = choice.sort(dim=-1, descending=True, stable=True).indices[:, : self.topk] => ids = choice.sort(dim=-1, descending=True).indices[:, : self.topk]":
        TIES,
    "L1.flash_attn_prefill forward_native: rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0))) => rows = max(1, SCORES % (self.num_heads * max(1, k1 - k0)))":
        BLOCKING,
    "L1.flash_attn_prefill forward_native: rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0))) => rows = max(1, SCORES // (self.num_heads * max(1, k1 + k0)))":
        BLOCKING,
    "L1.flash_attn_prefill forward_native: if seen > k0: => if True:":
        Explained("equal", "Rows that see no key come to zeros in `attend` as well."),
    "L1.grouped_topk forward_native: order = self.group_ranks(choice, biased).sort(dim=-1, descending=True, stable=True).indices => order = self.group_ranks(choice, biased).sort(dim=-1, descending=True).indices":
        TIES,
    "L1.grouped_topk forward_native: ids = choice.sort(dim=-1, descending=True, stable=True).indices[:, : self.topk] => ids = choice.sort(dim=-1, descending=True, stable=False).indices[:, : self.topk]":
        TIES,
    "L1.mla_decode forward_native: out[seq] = torch.matmul(weights, keys[:, : self.kv_lora_rank]).to(query.dtype) => out[seq] = torch.matmul(weights, keys[:, : self.kv_lora_rank])":
        STORED,
    "L1.moe_align blocks_at_most: used = min(choices, num_experts) => used = min(num_experts, choices)": COMMUTES,
    "L1.moe_align forward_native: chosen, order = flat.sort(stable=True) => chosen, order = flat.sort()": ANY_ORDER,
    "L1.moe_align forward_native: chosen, order = flat.sort(stable=True) => chosen, order = flat.sort(stable=False)":
        ANY_ORDER,
    "L1.moe_align forward_native: expert_ids = torch.where(block < ends[-1], torch.searchsorted(ends, block, right=True), -1) => expert_ids = torch.where(block <= ends[-1], torch.searchsorted(ends, block, right=True), -1)":
        Explained("allowed", "Only the first block that is not in use differs; `canonical` takes anything there."),
    "L1.moe_grouped_gemm forward_native: y = y + self.bias[expert].to(wide) => y = y + self.bias[expert]": PROMOTED,
    "L1.moe_grouped_gemm forward_native: y = y * topk_weights.flatten()[places, None].to(wide) => y = y * topk_weights.flatten()[places, None]":
        PROMOTED,
    "L1.moe_grouped_gemm rows_of_experts: used, size = int(padded), sorted_ids.shape[0] // max(1, expert_ids.shape[0]) => used, size = int(padded), sorted_ids.shape[0] // max(2, expert_ids.shape[0])":
        Explained("unreachable", "Shows for one block in all, which is one row in all: every model chooses 2 experts a token or more."),
    "L1.moe_sum forward_native: return x.sum(dim=1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype) => return x.sum(dim=1).to(x.dtype)":
        Explained("equal", "torch sums 16-bit values in float32 and rounds once anyhow."),
    "L1.rms_norm forward_native: wide = wide + residual.to(wide.dtype) => wide = wide + residual": PROMOTED,
    "L1.rms_norm forward_native: normed = (wide * scale * self.weight.to(wide.dtype)).to(x.dtype) => normed = (wide * scale * self.weight).to(x.dtype)":
        PROMOTED,
    "L1.rotary_emb yarn_frequencies: low, high = max(low, 0), min(high, 2 * pairs - 1) => low, high = max(low, 0), min(high, 2 * pairs + 1)":
        Explained("unreachable", "Shows where the original context is longer than 2 pi base^2; the least base of a model is 10000."),
    "L1.rotary_emb inverse_frequencies: base *= (factor * factor - (factor - 1)) ** (self.rotary_dim / (self.rotary_dim - 2)) => base *= (factor / factor - (factor - 1)) ** (self.rotary_dim / (self.rotary_dim - 2))":
        Explained("unreachable", "Dynamic scaling: no model has it, and the generator refuses it."),
    "L1.rotary_emb cos_sin: angles = torch.outer(torch.arange(rows, dtype=torch.float32), inv_freq) => angles = torch.outer(torch.arange(rows), inv_freq)":
        Explained("equal", "The product with float32 makes positions float32 anyhow."),
    "L1.rotary_emb rotate: cos, sin = cos.to(wide), sin.to(wide) => cos, sin = cos, sin.to(wide)": PROMOTED,
    "L1.silu_and_mul forward_native: gate, up = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1) => gate, up = x.chunk(2, dim=-1)":
        ONCE_MORE,
    "L1.store_kvcache forward_native: key_cache[page, within] = key[used].to(key_cache.dtype) => key_cache[page, within] = key[used]":
        SAME_DTYPE,
    "L1.store_kvcache forward_native: value_cache[page, within] = value[used].to(value_cache.dtype) => value_cache[page, within] = value[used]":
        SAME_DTYPE,
    "L1.store_mla_cache forward_native: kv_cache[page, within] = rows.to(kv_cache.dtype) => kv_cache[page, within] = rows":
        SAME_DTYPE,
    "L1.topk_softmax forward_native: taken, ids = (t[..., : self.top_k] for t in logits.sort(dim=-1, descending=True, stable=True)) => taken, ids = (t[..., : self.top_k] for t in logits.sort(dim=-1, descending=True))":
        TIES,
    "L1.topk_softmax forward_native: taken, ids = (t[..., : self.top_k] for t in logits.sort(dim=-1, descending=True, stable=True)) => taken, ids = (t[..., : self.top_k] for t in logits.sort(dim=-1, descending=True, stable=False))":
        TIES,
    "L2._mla_attention forward: y = parts[0] if len(parts) == 1 else torch.cat(parts) => y = parts[0] if False else torch.cat(parts)":
        ONE_PART,
    "L2.attention forward: y = parts[0] if len(parts) == 1 else torch.cat(parts) => y = parts[0] if False else torch.cat(parts)":
        ONE_PART,
    "L2.attention forward: query[count:], keys, values, new.cu_seqlens_q, new.cu_seqlens_k, new.max_seqlen_q, new.max_seqlen_k, sinks, => query[count:], keys, values, new.cu_seqlens_q, new.cu_seqlens_k, new.max_seqlen_k, new.max_seqlen_q, sinks,":
        Explained("coverage", "The two bounds choose a kernel's grid and window; the native path on a CPU does not read them."),
    "L2.deepseek_v2_attention forward: if rotated is not q_pe: # on CUDA it was rotated where it lies => if True: # on CUDA it was rotated where it lies":
        Explained("equal", "A tensor copied onto itself stays what it is."),
    "L2.fused_moe forward: rows = ids.shape[0] * self.top_k => rows = ids.shape[0] / self.top_k": LAYOUT,
    "L2.fused_moe forward: rows = ids.shape[0] * self.top_k => rows = ids.shape[1] * self.top_k": LAYOUT,
    "L2.fused_moe forward: if rows * UNSORTED_EXPERTS_PER_ROW > self.num_experts: => if True:": LAYOUT,
    "L2.fused_moe forward: if rows * UNSORTED_EXPERTS_PER_ROW > self.num_experts: => if False:": LAYOUT,
    "L2.fused_moe forward: if rows * UNSORTED_EXPERTS_PER_ROW > self.num_experts: => if rows * UNSORTED_EXPERTS_PER_ROW >= self.num_experts:":
        LAYOUT,
    "L2.fused_moe forward: if rows * UNSORTED_EXPERTS_PER_ROW > self.num_experts: => if rows / UNSORTED_EXPERTS_PER_ROW > self.num_experts:":
        LAYOUT,
    "L2.fused_moe forward: order = self.align(ids, block_size(rows, self.num_experts)) => order = self.align(ids, block_size(self.num_experts, rows))":
        LAYOUT,
    "L2.parallel_linear ColumnParallelLinear.forward: if self.gather_output and self.tp_group.size > 1: => if False:":
        NOT_BUILT_SO,
    "L2.parallel_linear ColumnParallelLinear.forward: if self.gather_output and self.tp_group.size > 1: => if self.gather_output and self.tp_group.size >= 1:":
        Explained("equal", "A join of one rank's part is that part."),
    "L2.parallel_linear ColumnParallelLinear.forward: if self.gather_output and self.tp_group.size > 1: => if self.gather_output and self.tp_group.size > 2:":
        NOT_BUILT_SO,
    "L2.parallel_linear ColumnParallelLinear.forward: y = self.tp_group.all_gather(y) => pass": NOT_BUILT_SO,
    "L2.parallel_linear ReplicatedLinear.forward: return (y, None) if self.return_bias else y => return (y, None) if True else y":
        NOT_BUILT_SO,
    "L2.parallel_linear ColumnParallelLinear.forward: return (y, None) if self.return_bias else y => return (y, None) if True else y":
        NOT_BUILT_SO,
    "L2.parallel_linear QKVParallelLinear.forward: return (y, None) if self.return_bias else y => return (y, None) if True else y":
        NOT_BUILT_SO,
    "L2.parallel_linear RowParallelLinear.forward: return (y, None) if self.return_bias else y => return (y, None) if True else y":
        NOT_BUILT_SO,
    "L2.parallel_linear RowParallelLinear.forward: if not self.input_is_parallel: => if False:": NOT_BUILT_SO,
    "L2.parallel_linear RowParallelLinear.forward: x = x.chunk(self.tp_group.size, dim=-1)[self.tp_group.rank] => pass":
        NOT_BUILT_SO,
    "L2.vocab_parallel_embedding forward: if self.shard.group.size == 1: => if False:":
        Explained("equal", "One rank holds every id: none is masked."),
    "L2.vocab_parallel_embedding forward: y = super().forward(local.masked_fill(is_elsewhere, 0)) => y = super().forward(local.masked_fill(is_elsewhere, 1))":
        Explained("equal", "What is looked up for ids of other ranks is then masked."),
    "L3._pre_norm_layer forward: hidden_states, residual = self.input_layernorm(hidden_states, residual) => hidden_states, residual = self.input_layernorm(residual, hidden_states)":
        COMMUTES,
    "L3._pre_norm_layer forward: hidden_states, residual = self.post_attention_layernorm(hidden_states, residual) => hidden_states, residual = self.post_attention_layernorm(residual, hidden_states)":
        COMMUTES,
    "L3._sandwich_layer forward: hidden_states, residual = self.input_layernorm(hidden_states, residual) => hidden_states, residual = self.input_layernorm(residual, hidden_states)":
        COMMUTES,
    "L3._sandwich_layer forward: hidden_states, residual = self.pre_feedforward_layernorm(hidden_states, residual) => hidden_states, residual = self.pre_feedforward_layernorm(residual, hidden_states)":
        COMMUTES,
}
"""By the mutant's name; the script fails where one of them is caught."""
