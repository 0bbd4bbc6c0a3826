"""A layer of gated experts: routing, two grouped products around the activation, and the sum over the chosen ones."""

from typing import Any

import torch
from torch import nn

from fastkernels.runtime.model_config import check_choice
from fastkernels.runtime.parallel import divide, tp_group
from fastkernels.runtime.weights import Stacked, set_weight_loader

from ..L1.allreduce import AllReduce
from ..L1.grouped_topk import GroupedTopk
from ..L1.moe_align import MoeAlignBlockSize
from ..L1.moe_grouped_gemm import MoeGroupedGemm
from ..L1.moe_sum import MoeSum
from ..L1.silu_and_mul import SiluAndMul
from ..L1.swigluoai_and_mul import SwigluOAIAndMul
from ..L1.topk_softmax import TopKSoftmax

UNSORTED_EXPERTS_PER_ROW = 4
"""From so many experts a row on, rows are not sorted: hardly two of them share an expert."""
GATE, UP, DOWN, ALL = "w1", "w3", "w2", "all"
"""Shards of the loaders: vLLM's names, and the tensor of all experts that GPT-OSS stores."""


def block_size(rows: int, num_experts: int) -> int:
    """Rows of a block: those of most experts fit in one, since each block reads its expert's weights."""
    for size in (16, 32, 64):
        if rows * 3 <= size * 2 * num_experts:
            return size
    return 128


class FusedMoE(nn.Module):
    """y[t] = sum over the chosen experts e of weight(t, e) down_e(act(gate_e(x[t]), up_e(x[t]))).

    hidden_states: [T, hidden_size], router_logits: [T, num_experts] -> [T, hidden_size]; without reduce_results this
    rank's part of the sum. A rank holds an equal share of every expert's intermediate size: w13.weight
    [E, 2 * I / tp, H] (gate, then up; alternating with activation `swigluoai`), w2.weight [E, H, I / tp], and biases
    with has_bias, that of w2 on rank 0 alone. Routing: the softmax's top_k, or with use_grouped_topk DeepSeek's.
    vLLM's takes e_score_correction_bias when it is built; here the caller that owns it passes it on.
    """

    def __init__(
        self, num_experts: int, top_k: int, hidden_size: int, intermediate_size: int,
        params_dtype: torch.dtype | None = None, reduce_results: bool = False, renormalize: bool = True,
        use_grouped_topk: bool = False, num_expert_group: int | None = None, topk_group: int | None = None,
        prefix: str = "", scoring_func: str = "softmax", routed_scaling_factor: float = 1.0, activation: str = "silu",
        has_bias: bool = False, *, swiglu_alpha: float = 1.702, swiglu_limit: float = 7.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tp_group = group = tp_group()
        self.num_experts = num_experts
        self.top_k = top_k
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.local_size = divide(intermediate_size, group.size, f"{prefix or type(self).__name__}: intermediate size")
        self.reduce_results = reduce_results
        self.router: nn.Module
        if use_grouped_topk:
            self.router = GroupedTopk(
                top_k, renormalize, num_expert_group or 0, topk_group or 0, scoring_func, routed_scaling_factor
            )
        elif scoring_func == "softmax" and routed_scaling_factor == 1.0:
            self.router = TopKSoftmax(top_k, renormalize)
        else:
            raise ValueError(f"{prefix or type(self).__name__}: scoring_func {scoring_func!r} with "
                             f"routed_scaling_factor {routed_scaling_factor} needs use_grouped_topk")
        self.align = MoeAlignBlockSize(num_experts)
        self.w13 = MoeGroupedGemm(num_experts, hidden_size, 2 * self.local_size, top_k, has_bias, params_dtype)
        self.act_fn = activation_op(activation, swiglu_alpha, swiglu_limit)
        self.w2 = MoeGroupedGemm(num_experts, self.local_size, hidden_size, 1, has_bias, params_dtype)
        self.moe_sum = MoeSum()
        self.all_reduce = AllReduce()
        self._set_loaders()

    @property
    def w13_weight(self) -> nn.Parameter:
        """vLLM's name of w13.weight."""
        return self.w13.weight

    @property
    def w2_weight(self) -> nn.Parameter:
        """vLLM's name of w2.weight."""
        return self.w2.weight

    def _set_loaders(self) -> None:
        """Shards are (GATE, UP or DOWN, expert), or (ALL,): every expert's tensor transposed, as GPT-OSS has them."""
        experts, hidden, inner = self.num_experts, self.hidden_size, self.intermediate_size
        set_weight_loader(
            self.w13.weight, self._load_w13,
            lambda shard, *_: (experts, hidden, 2 * inner) if shard == ALL else (inner, hidden),
        )  # fmt: skip
        set_weight_loader(
            self.w2.weight, self._load_w2,
            lambda shard, *_: (experts, inner, hidden) if shard == ALL else (hidden, inner),
        )  # fmt: skip
        if self.w13.bias is not None and self.w2.bias is not None:
            set_weight_loader(
                self.w13.bias, self._load_w13, lambda shard, *_: (experts, 2 * inner) if shard == ALL else (inner,)
            )
            set_weight_loader(
                self.w2.bias, self._load_w2_bias, lambda shard, *_: (experts, hidden) if shard == ALL else (hidden,)
            )

    def _load_w13(self, parameter: nn.Parameter, tensor: torch.Tensor, shard: str, expert: int = 0) -> None:
        """Copy this rank's rows of one expert's gate or up projection, or of all experts' both."""
        size, rank = self.local_size, self.tp_group.rank
        if shard == ALL:
            whole = tensor.transpose(1, 2) if tensor.dim() == 3 else tensor
            parameter.copy_(whole.narrow(1, rank * 2 * size, 2 * size))
        else:
            start = {GATE: 0, UP: size}[shard]
            parameter[expert, start : start + size].copy_(tensor.narrow(0, rank * size, size))

    def _load_w2(self, parameter: nn.Parameter, tensor: torch.Tensor, shard: str, expert: int = 0) -> None:
        """Copy this rank's columns of one expert's or of all experts' down projection."""
        start, size = self.tp_group.rank * self.local_size, self.local_size
        if shard == ALL:
            parameter.copy_(tensor.narrow(1, start, size).transpose(1, 2))
        else:
            parameter[expert].copy_(tensor.narrow(1, start, size))

    def _load_w2_bias(self, parameter: nn.Parameter, tensor: torch.Tensor, shard: str, expert: int = 0) -> None:
        """Copy the bias on rank 0, so that the sum over ranks holds it once."""
        part = parameter if shard == ALL else parameter[expert]
        part.copy_(tensor if self.tp_group.rank == 0 else torch.zeros_like(tensor))

    @staticmethod
    def make_expert_params_mapping(
        ckpt_gate_proj_name: str, ckpt_down_proj_name: str, ckpt_up_proj_name: str, num_experts: int
    ) -> tuple[Stacked, ...]:
        """How checkpoints that store each expert's projections apart fill w13 and w2."""
        up = {f"experts.{e}.{name}": (shard, e) for e in range(num_experts)
              for name, shard in ((ckpt_gate_proj_name, GATE), (ckpt_up_proj_name, UP))}
        down = {f"experts.{e}.{ckpt_down_proj_name}": (DOWN, e) for e in range(num_experts)}
        return Stacked("experts.w13", up), Stacked("experts.w2", down)

    def forward(
        self, hidden_states: torch.Tensor, router_logits: torch.Tensor,
        e_score_correction_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The parts in order."""
        bias = () if e_score_correction_bias is None else (e_score_correction_bias,)
        weights, ids = self.router(router_logits, *bias)
        rows = ids.shape[0] * self.top_k
        order: tuple[Any, ...] = (None, ids.flatten(), None)
        if rows * UNSORTED_EXPERTS_PER_ROW > self.num_experts:
            order = self.align(ids, block_size(rows, self.num_experts))
        gate_up = self.w13(hidden_states, *order)
        down = self.w2(self.act_fn(gate_up), *order, weights)
        y: torch.Tensor = self.moe_sum(down.view(-1, self.top_k, self.hidden_size))
        return self.all_reduce(y) if self.reduce_results else y


def activation_op(name: str, alpha: float, limit: float) -> nn.Module:
    """The gated activation of that name; ModelError for others."""
    check_choice("activation", name, "silu", "swigluoai")
    return SiluAndMul() if name == "silu" else SwigluOAIAndMul(alpha, limit)
