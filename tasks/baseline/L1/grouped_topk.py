"""Routing of tokens to experts by groups: the best groups of experts first, then the best experts in them."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

SCORING = ("softmax", "sigmoid")


@triton.jit
def first_of_largest(x, index, axis: tl.constexpr, NONE: tl.constexpr):
    """(largest x, lowest index that has it) along `axis`, both with that axis kept; NONE is above every index."""
    best = tl.max(x, axis=axis, keep_dims=True)
    return best, tl.min(tl.where(x == best, index, NONE), axis=axis, keep_dims=True)


@triton.jit
def largest_in_block(x, axis_0: tl.constexpr, axis_1: tl.constexpr):
    """Largest of a 2-D block, as [1, 1]."""
    return tl.max(tl.max(x, axis=axis_1, keep_dims=True), axis=axis_0, keep_dims=True)


@triton.jit
def sum_of_block(x):
    """Sum of a 2-D block, as [1, 1]."""
    return tl.sum(tl.sum(x, axis=1, keep_dims=True), axis=0, keep_dims=True)


@triton.jit
def grouped_topk_kernel(
    logits_ptr, bias_ptr, weights_ptr, ids_ptr, logits_row, scale, GROUPS: tl.constexpr, GROUPS_BLOCK: tl.constexpr,
    SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, TOPK_GROUP: tl.constexpr, TOP_K: tl.constexpr,
    TOP_K_BLOCK: tl.constexpr, SIGMOID: tl.constexpr, HAS_BIAS: tl.constexpr, RENORMALIZE: tl.constexpr,
):
    """One token: its scores as [GROUPS, SIZE], TOPK_GROUP groups chosen, then TOP_K experts in them, ties to the lower.

    A group's rank is its largest score, or with a bias the sum of its two largest biased scores.
    """
    scale = tl.cast(scale, tl.float32)  # torch.compile passes float64
    token = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUPS_BLOCK)[:, None]
    member = tl.arange(0, SIZE_BLOCK)[None, :]
    expert = group * SIZE + member
    mask = (group < GROUPS) & (member < SIZE)
    none: tl.constexpr = GROUPS_BLOCK * SIZE + SIZE_BLOCK
    logits = tl.load(logits_ptr + token * logits_row + expert, mask=mask, other=float("-inf")).to(tl.float32)
    if SIGMOID:
        scores = 1.0 / (1.0 + tl.exp(-logits))
    else:
        exps = tl.exp(logits - largest_in_block(logits, 0, 1))
        scores = exps / sum_of_block(exps)
    choice = scores
    if HAS_BIAS:
        choice += tl.load(bias_ptr + expert, mask=mask, other=0.0).to(tl.float32)
    choice = tl.where(mask, choice, float("-inf"))

    if TOPK_GROUP < GROUPS:
        rank, at = first_of_largest(choice, expert, 1, none)
        if HAS_BIAS:
            rank += tl.max(tl.where(expert == at, float("-inf"), choice), axis=1, keep_dims=True)
        rank = tl.where(group < GROUPS, rank, float("-inf"))
        kept = tl.zeros([GROUPS_BLOCK, 1], tl.int1)
        for _ in tl.static_range(TOPK_GROUP):
            _, best = first_of_largest(rank, group, 0, GROUPS_BLOCK)
            kept = kept | (group == best)
            rank = tl.where(group == best, float("-inf"), rank)
        choice = tl.where(kept, choice, float("-inf"))

    slot = tl.arange(0, TOP_K_BLOCK)[None, :]
    ids = tl.zeros([1, TOP_K_BLOCK], tl.int32)
    weights = tl.zeros([1, TOP_K_BLOCK], tl.float32)
    for k in tl.static_range(TOP_K):
        best = tl.min(tl.where(choice == largest_in_block(choice, 0, 1), expert, none), axis=1, keep_dims=True)
        best = tl.min(best, axis=0, keep_dims=True)
        ids = tl.where(slot == k, best, ids)
        weights = tl.where(slot == k, sum_of_block(tl.where(expert == best, scores, 0.0)), weights)
        choice = tl.where(expert == best, float("-inf"), choice)
    if RENORMALIZE:
        weights /= tl.sum(weights, axis=1, keep_dims=True)
    in_slot = slot < TOP_K
    tl.store(weights_ptr + token * TOP_K + slot, weights * scale, mask=in_slot)
    tl.store(ids_ptr + token * TOP_K + slot, ids, mask=in_slot)


class GroupedTopk(Op):
    """The topk experts of each token among its topk_group best of num_expert_group groups (DeepSeek-V2 and -V3, 2024).

    gating_output: [T, E]; e_score_correction_bias: [E] or None -> (topk_weights [T, topk] float32, topk_ids [T, topk]
    int32), in falling order of what they were chosen by. Scores are the softmax or sigmoid of gating_output; experts
    and groups are chosen by score + bias, weights are the scores alone, divided by their sum with renormalize, times
    routed_scaling_factor. A group ranks by its largest score, with a bias by the sum of its two largest. Equals fall
    to the lower index. No groups: num_expert_group 0 or 1. Mirrors vLLM's GroupedTopk without the hidden states, of
    which that only reads the row count.
    """

    provider = "triton"

    def __init__(
        self, topk: int, renormalize: bool, num_expert_group: int = 0, topk_group: int = 0,
        scoring_func: str = "softmax", routed_scaling_factor: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if scoring_func not in SCORING:
            raise ValueError(f"scoring_func: {scoring_func!r} is not one of {', '.join(SCORING)}")
        self.topk = topk
        self.renormalize = renormalize
        self.num_expert_group = max(1, num_expert_group)
        self.topk_group = topk_group if num_expert_group > 1 else 1
        if not 0 < self.topk_group <= self.num_expert_group:
            raise ValueError(f"topk_group: {topk_group} is not one of 1 to {num_expert_group}, num_expert_group")
        self.scoring_func = scoring_func
        self.routed_scaling_factor = routed_scaling_factor

    def group_size(self, experts: int) -> int:
        """Experts in a group; ValueError where groups do not come out even or are too few for topk experts."""
        size, rest = divmod(experts, self.num_expert_group)
        if rest:
            raise ValueError(f"gating_output: {experts} experts do not divide into {self.num_expert_group} groups")
        if self.topk > size * self.topk_group:
            raise ValueError(f"topk: {self.topk} is more than the {size * self.topk_group} experts of "
                             f"{self.topk_group} groups")
        return size

    def scores(self, gating_output: torch.Tensor) -> torch.Tensor:
        """[T, E] in float32 or better."""
        logits = gating_output.to(torch.promote_types(gating_output.dtype, torch.float32))
        return logits.softmax(dim=-1) if self.scoring_func == "softmax" else logits.sigmoid()

    def group_ranks(self, choice: torch.Tensor, biased: bool) -> torch.Tensor:
        """What groups are chosen by, [T, G]."""
        grouped = choice.unflatten(-1, (self.num_expert_group, -1))
        count = min(2, grouped.shape[-1]) if biased else 1
        return grouped.topk(count, dim=-1).values.sum(dim=-1)

    def weights_of(self, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Weights of these experts, [T, topk]."""
        weights = scores.gather(-1, ids)
        if self.renormalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights * self.routed_scaling_factor

    def forward_native(
        self, gating_output: torch.Tensor, e_score_correction_bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Plain PyTorch, in float32 (float64 for float64 inputs); stable sorts settle ties."""
        size = self.group_size(gating_output.shape[-1])
        scores = self.scores(gating_output)
        biased = e_score_correction_bias is not None
        choice = scores + e_score_correction_bias.to(scores.dtype) if biased else scores
        if self.topk_group < self.num_expert_group:
            order = self.group_ranks(choice, biased).sort(dim=-1, descending=True, stable=True).indices
            kept = torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order[:, : self.topk_group], True)
            choice = choice.masked_fill(~kept.repeat_interleave(size, dim=-1), -torch.inf)
        ids = choice.sort(dim=-1, descending=True, stable=True).indices[:, : self.topk]
        return self.weights_of(scores, ids), ids.to(torch.int32)

    def forward_cuda(
        self, gating_output: torch.Tensor, e_score_correction_bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One Triton kernel, a program for each token."""
        logits = gating_output if gating_output.stride(-1) == 1 else gating_output.contiguous()
        tokens, experts = logits.shape
        size = self.group_size(experts)
        weights = torch.empty((tokens, self.topk), dtype=torch.float32, device=logits.device)
        ids = torch.empty((tokens, self.topk), dtype=torch.int32, device=logits.device)
        if tokens == 0:
            return weights, ids
        groups_block, size_block = (triton.next_power_of_2(n) for n in (self.num_expert_group, size))
        bias = logits if e_score_correction_bias is None else e_score_correction_bias.contiguous()
        grouped_topk_kernel[(tokens,)](
            logits, bias, weights, ids, logits.stride(0), self.routed_scaling_factor, GROUPS=self.num_expert_group,
            GROUPS_BLOCK=groups_block, SIZE=size, SIZE_BLOCK=size_block, TOPK_GROUP=self.topk_group, TOP_K=self.topk,
            TOP_K_BLOCK=triton.next_power_of_2(self.topk), SIGMOID=self.scoring_func == "sigmoid",
            HAS_BIAS=e_score_correction_bias is not None, RENORMALIZE=self.renormalize, num_warps=1,
        )  # fmt: skip
        return weights, ids

    def canonical(
        self, outputs: tuple[torch.Tensor, torch.Tensor], inputs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Experts that float32 cannot tell from the due ones are replaced by them, a row at a time.

        Groups that tie for the last places may be chosen either way, and so may experts that tie within the chosen
        groups. Such a row's weights become the due ones, plus what they were off those of the experts it named.
        """
        weights, ids = outputs
        bias = inputs.get("e_score_correction_bias")
        scores = self.scores(inputs["gating_output"])
        choice = scores if bias is None else scores + bias.to(scores.dtype)
        slack = resolution(scores if bias is None else scores + bias.to(scores.dtype).abs())
        legal = (ids >= 0) & (ids < scores.shape[-1])
        named = torch.where(legal, ids, 0).long()
        once = (named.unsqueeze(-1) == named.unsqueeze(-2)).sum(dim=-1) == 1
        open_to = self.allowed_experts(choice, slack, named, bias is not None)
        best = choice.masked_fill(~open_to, -torch.inf).sort(dim=-1, descending=True).values[:, : self.topk]
        near = (choice.gather(-1, named) - best).abs() <= 2 * slack.gather(-1, named)
        right = (legal & once & near & open_to.gather(-1, named)).all(dim=-1, keepdim=True)
        due_weights, due = self.forward_native(inputs["gating_output"], bias)
        moved = due_weights.to(weights.dtype) + (weights - self.weights_of(scores, named).to(weights.dtype))
        same = ids == due
        return torch.where(right & ~same.all(dim=-1, keepdim=True), moved, weights), torch.where(right, due, ids)

    def allowed_experts(
        self, choice: torch.Tensor, slack: torch.Tensor, named: torch.Tensor, biased: bool
    ) -> torch.Tensor:
        """[T, E] bool: experts of the groups that an answer which names these experts may have chosen.

        Groups clearly above the last place are in, those clearly below are out; of those that tie with it the ones
        that are named, then those whose best expert is worst, since their experts were passed over.
        """
        grouped = choice.unflatten(-1, (self.num_expert_group, -1))
        ranks = self.group_ranks(choice, biased)
        room = slack.unflatten(-1, (self.num_expert_group, -1)).amax(dim=-1) * (2 if biased else 1)
        last = ranks.sort(dim=-1, descending=True).values[:, self.topk_group - 1 : self.topk_group]
        above, below = ranks - last > 2 * room, last - ranks > 2 * room
        uses = torch.zeros_like(above).scatter_(-1, named // grouped.shape[-1], True)
        place = torch.where(above, 2, torch.where(below, -1, uses.int()))
        order = grouped.amax(dim=-1).argsort(dim=-1)
        order = order.gather(-1, place.gather(-1, order).argsort(dim=-1, descending=True, stable=True))
        chosen = torch.zeros_like(above).scatter_(-1, order[:, : self.topk_group], True)
        return chosen.repeat_interleave(grouped.shape[-1], dim=-1)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads logits and bias, writes weights and ids; an exponential, a sum, a division for each expert."""
        logits = inputs["gating_output"]
        moved = tensor_bytes(logits, inputs.get("e_score_correction_bias"), *outputs)
        return Work(bytes=moved, flops=3 * logits.numel())


def resolution(magnitude: torch.Tensor) -> torch.Tensor:
    """What float32 may be off a score of this size."""
    info = torch.finfo(torch.float32)
    return 4 * info.eps * magnitude + info.tiny
