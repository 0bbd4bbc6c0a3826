"""Routing of tokens to experts: softmax over the experts and the top k of it."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

REMOVED = tl.constexpr(-(2**31))


@triton.jit(do_not_specialize=["tokens"])
def topk_softmax_kernel(
    logits_ptr, weights_ptr, ids_ptr, tokens, logits_row, EXPERTS: tl.constexpr, EXPERTS_BLOCK: tl.constexpr,
    TOP_K: tl.constexpr, TOP_K_BLOCK: tl.constexpr, TOKENS: tl.constexpr, RENORMALIZE: tl.constexpr,
):
    """weights[t], ids[t] = the TOP_K largest of softmax(logits[t]) in falling order, TOKENS rows a program.

    Logits are ordered as integers that sort as the floats do, so that ties fall to the lower expert and neither
    padding nor an expert that was taken is ever taken again, whatever the logits.
    """
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)[:, None]).to(tl.int64)
    expert = tl.arange(0, EXPERTS_BLOCK)[None, :]
    in_row = token < tokens
    mask = in_row & (expert < EXPERTS)
    logits = tl.load(logits_ptr + token * logits_row + expert, mask=mask, other=float("-inf")).to(tl.float32)
    logits = tl.where(logits == 0.0, 0.0, logits)  # -0 and 0 tie
    bits = logits.to(tl.int32, bitcast=True)
    order = tl.where(mask, bits ^ ((bits >> 31) & 0x7FFFFFFF), REMOVED)

    slot = tl.arange(0, TOP_K_BLOCK)[None, :]
    largest = tl.max(logits, axis=1, keep_dims=True)
    exps = tl.exp(logits - largest)
    ids = tl.zeros((TOKENS, TOP_K_BLOCK), tl.int32)
    weights = tl.zeros((TOKENS, TOP_K_BLOCK), tl.float32)
    for k in tl.static_range(TOP_K):
        _, best = tl.max(order, axis=1, return_indices=True, keep_dims=True)
        weight = tl.sum(tl.where(expert == best, exps, 0.0), axis=1, keep_dims=True)
        ids = tl.where(slot == k, best, ids)
        weights = tl.where(slot == k, weight, weights)
        order = tl.where(expert == best, REMOVED, order)
    weights /= tl.sum(weights if RENORMALIZE else exps, axis=1, keep_dims=True)
    out_mask = in_row & (slot < TOP_K)
    tl.store(weights_ptr + token * TOP_K + slot, weights, mask=out_mask)
    tl.store(ids_ptr + token * TOP_K + slot, ids, mask=out_mask)


def launch_shape(tokens: int, experts_block: int) -> tuple[int, int]:
    """(tokens a program, warps a program); H200, 8 and 128 experts, 1 to 4096 tokens: within 7 % of the best tried."""
    per_program = 1 if tokens <= 512 else max(1, min(16, 512 // experts_block))
    return per_program, max(1, per_program * experts_block // 256)


class TopKSoftmax(Op):
    """The top_k largest of softmax(gating_output) and their experts, as Mixtral and Qwen3 route tokens.

    gating_output: [T, E] -> (topk_weights [T, top_k] float32, topk_ids [T, top_k] int32), in falling order; equal
    logits fall to the lower expert. With renormalize the weights of a token sum to one. Mirrors vLLM's topk_softmax.
    """

    provider = "triton"

    def __init__(self, top_k: int, renormalize: bool = True) -> None:
        super().__init__()
        self.top_k = top_k
        self.renormalize = renormalize

    def forward_native(self, gating_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Plain PyTorch, in float32 (float64 for float64 inputs); a stable sort of the logits settles ties."""
        logits = gating_output.to(torch.promote_types(gating_output.dtype, torch.float32))
        taken, ids = (t[..., : self.top_k] for t in logits.sort(dim=-1, descending=True, stable=True))
        weights = torch.exp(taken - taken[..., :1])
        total = weights if self.renormalize else torch.exp(logits - taken[..., :1])
        return weights / total.sum(dim=-1, keepdim=True), ids.to(torch.int32)

    def forward_cuda(self, gating_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One Triton kernel."""
        logits = gating_output if gating_output.stride(-1) == 1 else gating_output.contiguous()
        tokens, experts = logits.shape
        weights = torch.empty((tokens, self.top_k), dtype=torch.float32, device=logits.device)
        ids = torch.empty((tokens, self.top_k), dtype=torch.int32, device=logits.device)
        experts_block = triton.next_power_of_2(experts)
        per_program, num_warps = launch_shape(tokens, experts_block)
        topk_softmax_kernel[(triton.cdiv(tokens, per_program),)](
            logits, weights, ids, tokens, logits.stride(0), EXPERTS=experts, EXPERTS_BLOCK=experts_block,
            TOP_K=self.top_k, TOP_K_BLOCK=triton.next_power_of_2(self.top_k), TOKENS=per_program,
            RENORMALIZE=self.renormalize, num_warps=num_warps,
        )
        return weights, ids

    def canonical(
        self, outputs: tuple[torch.Tensor, torch.Tensor], inputs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids that tie with the one due at their place are replaced by it; illegal and repeated ids stay.

        Ids tie where float32 cannot tell their probabilities apart: equal logits, or both probabilities zero there.
        So a kernel that settles ties otherwise, or picks from the softmax instead of the logits, is right as well.
        """
        weights, ids = outputs
        logits = inputs["gating_output"].to(torch.promote_types(inputs["gating_output"].dtype, torch.float32))
        order = logits.sort(dim=-1, descending=True, stable=True).indices[..., : self.top_k]
        chances = torch.softmax(logits, dim=-1)
        legal = (ids >= 0) & (ids < logits.shape[-1])
        due, got = (chances.gather(-1, i) for i in (order, torch.where(legal, ids, 0).long()))
        first = (ids.unsqueeze(-1) == ids.unsqueeze(-2)).to(torch.uint8).argmax(dim=-1)
        once = first == torch.arange(self.top_k, device=ids.device)
        tie = (got - due).abs() <= 4 * torch.finfo(torch.float32).eps * due + torch.finfo(torch.float32).tiny
        return weights, torch.where(legal & once & tie, order.to(ids.dtype), ids)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads the logits, writes weights and ids; a subtraction, an exponential and a sum for each expert."""
        logits = inputs["gating_output"]
        return Work(bytes=tensor_bytes(logits, *outputs), flops=3 * logits.numel())
