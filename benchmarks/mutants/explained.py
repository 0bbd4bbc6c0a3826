"""Why the mutants survive that do: most compute the same as the original, some what no tolerance can tell from it."""
# ruff: noqa: E501  names of mutants are lines of the baseline, which are easier to find unbroken

from dataclasses import dataclass

EQUIVALENT = ("equal", "unreachable", "allowed")
"""Reasons by which a mutant is no wrong kernel: it does not count in the score. All others count as not caught."""


@dataclass(frozen=True)
class Explained:
    """Why one mutant survives."""

    reason: str
    """`equal`: the same outputs for all inputs that the operator is defined for; `unreachable`: no call runs the changed
    code; `allowed`: another right answer, as the operator's `canonical` or docs/correctness.md has it; `tolerance`:
    another number, within what rounding may do; `coverage`: no scenario has what would show it."""
    text: str
    """In words."""


PROMOTED = Explained("equal", "The sum or the join with a float32 tensor makes it float32 anyhow.")
STORED = Explained("equal", "The assignment into the output rounds as the conversion did.")
BLOCKING = Explained("equal", "Only how many rows are computed at once changes.")
TIES = Explained("allowed", "Ties may be settled either way.")
ONCE_MORE = Explained("allowed", "Rounds once or twice more than the baseline, as honest kernels do.")
ALL_GROUPS = Explained("equal", "Where all groups are kept the mask hides none.")

EXPLAINED: dict[str, Explained] = {
    "L1.swigluoai_and_mul wrong bound: gate = wide[..., 0::2].clamp(max=self.limit) => gate = wide[..., 0::2].clamp(min=-self.limit, max=self.limit)":
        Explained("tolerance", "Below -7 gate * sigmoid(1.702 gate) is under 5e-5: outputs differ by less than 4e-4, beside others of unit scale in their row."),
    "L1.grouped_topk wrong mask: choice = choice.masked_fill(~kept.repeat_interleave(size, dim=-1), -torch.inf) => choice = choice.masked_fill(~kept.repeat_interleave(size, dim=-1), 0.0)":
        Explained("coverage", "Shows where an expert due has a score plus bias below 0. Biases are drawn around 0 with 0.02, and the best of the kept groups are above."),
    "L1.moe_align wrong padding: expert_ids = torch.where(block < ends[-1], torch.searchsorted(ends, block, right=True), -1) => expert_ids = torch.where(block < ends[-1], torch.searchsorted(ends, block, right=True), 0)":
        Explained("allowed", "Blocks after the last in use are not read; `canonical` takes anything there."),
    'L2.parallel_linear wrong shard: start, size = {"q": (0, q), "k": (q, kv), "v": (q + kv, kv)}[part] => start, size = {"q": (0, q), "v": (q, kv), "k": (q + kv, kv)}[part]':
        Explained("coverage", "Loaders of checkpoints are not called: both sides are given the same weights under the parameters' names."),
    "L3.qwen3_moe_decoder_layer wrong eps: config.max_position_embeddings, head_size(config), config.rms_norm_eps, bias, bias, => config.max_position_embeddings, head_size(config), 1e-2, bias, bias,":
        Explained("tolerance", "Heads have unit scale after the layer's own norm: an epsilon of 0.01 moves scores by 1 %, and the residual outdoes attention there."),
    "L1.flash_attn_decode forward_native: scores = torch.cat((scores, sinks.to(wide).view(self.num_kv_heads, -1, 1)), dim=-1) => scores = torch.cat((scores, sinks.view(self.num_kv_heads, -1, 1)), dim=-1)":
        PROMOTED,
    "L1.flash_attn_decode forward_native: out[seq] = y.reshape(self.num_heads, self.head_size).to(query.dtype) => out[seq] = y.reshape(self.num_heads, self.head_size)":
        STORED,
    "L1.flash_attn_prefill forward_native: rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0))) => rows = max(2, SCORES // (self.num_heads * max(1, k1 - k0)))":
        BLOCKING,
    "L1.flash_attn_prefill forward_native: rows = max(1, SCORES // (self.num_heads * max(1, k1 - k0))) => rows = max(1, SCORES // (self.num_heads * max(2, k1 - k0)))":
        BLOCKING,
    "L1.flash_attn_prefill forward_native: if seen > k0: => if seen >= k0:":
        Explained("equal", "Rows that see no key would be skipped; no batch has fewer keys than queries."),
    "L1.flash_attn_prefill forward_native: low = max(0, shift + 1 - self.sliding_window) if self.sliding_window else 0 => low = max(0, shift + 1 - self.sliding_window) if False else 0":
        Explained("equal", "Keys before the window are read and then masked."),
    "L1.flash_attn_prefill attend: logit = sinks.to(wide).view(self.num_kv_heads, -1, 1, 1).expand(-1, -1, rows, -1) => logit = sinks.view(self.num_kv_heads, -1, 1, 1).expand(-1, -1, rows, -1)":
        PROMOTED,
    "L1.flash_attn_prefill attend: weights = torch.softmax(scores, dim=-1)[..., :keys].masked_fill(row + shift < 0, 0.0) => weights = torch.softmax(scores, dim=-1)[..., :keys]":
        Explained("coverage", "Only rows that see no key differ; no batch has fewer keys than queries."),
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
}
"""By the mutant's name; the script fails where one of them is caught."""
