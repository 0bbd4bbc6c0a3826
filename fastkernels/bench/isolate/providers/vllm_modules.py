"""vLLM's counterpart of each operator class, called with our names of the arguments.

A builder gets the baseline's module, whose attributes give every size of this rank, and runs within vLLM's config on
the device and with the dtype of the scenario. vLLM's modules are imported when they are first built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Built:
    """A counterpart."""

    call: Callable[..., Any]
    """Takes the arguments of our forward by name."""
    module: nn.Module | None = None
    """vLLM's module, whose parameters become the baseline's; None for a function, which gets the baseline's."""


def rms_norm(ours: Any) -> Built:
    """vllm_c's kernels; with a residual in place."""
    from vllm.model_executor.layers.layernorm import RMSNorm

    module = RMSNorm(ours.hidden_size, ours.variance_epsilon, dtype=ours.weight.dtype)
    return Built(module, module)


def gemma_rms_norm(ours: Any) -> Built:
    """Plain PyTorch in vLLM, which has Inductor fuse it; compiled here too on CUDA."""
    from vllm.model_executor.layers.layernorm import GemmaRMSNorm

    module = GemmaRMSNorm(ours.weight.shape[0], ours.variance_epsilon)
    return Built(torch.compile(module, dynamic=True) if ours.weight.is_cuda else module, module)


def silu_and_mul(ours: Any) -> Built:
    """The kernel silu_and_mul."""
    from vllm.model_executor.layers.activation import SiluAndMul

    del ours
    return Built(SiluAndMul())


def gelu_and_mul(ours: Any) -> Built:
    """The kernels gelu_and_mul and gelu_tanh_and_mul."""
    from vllm.model_executor.layers.activation import GeluAndMul

    return Built(GeluAndMul(ours.approximate))


def swigluoai_and_mul(ours: Any) -> Built:
    """The kernel swigluoai_and_mul."""
    from vllm.model_executor.layers.activation import SwigluOAIAndMul

    return Built(SwigluOAIAndMul(ours.alpha, ours.limit))


def rotary_emb(ours: Any) -> Built:
    """The kernel rotary_embedding, in place, with vLLM's own table."""
    from vllm.model_executor.layers.rotary_embedding import get_rope

    parameters = {"rope_type": "default", **rope_scaling(ours.rope_scaling), "rope_theta": ours.base,
                  "partial_rotary_factor": ours.rotary_dim / ours.head_size}
    module = get_rope(ours.head_size, ours.max_position_embeddings, ours.is_neox_style, parameters,
                      ours.cos_sin_cache.dtype)
    return Built(by_head(module, ours.head_size) if parameters["rope_type"] == "deepseek_yarn" else module)


def by_head(module: nn.Module, size: int) -> Callable[..., Any]:
    """A rotary embedding that tells heads by a dimension of their own, as DeepSeek's in vLLM."""
    def call(positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, k = module(positions, *(x.reshape(x.shape[0], -1, size) for x in (query, key)))
        return q.reshape(query.shape), k.reshape(key.shape)

    return call


def rope_scaling(scaling: Mapping[str, Any]) -> dict[str, Any]:
    """Hugging Face's rope_scaling with the type under its newer name."""
    return {"rope_type" if key == "type" else key: value for key, value in scaling.items()}


def linear(ours: Any) -> Built:
    """The product of the parallel layers, of this rank's sizes and without a second result."""
    from vllm.model_executor.layers.linear import ReplicatedLinear

    rows, columns = ours.weight.shape
    module = ReplicatedLinear(columns, rows, ours.bias is not None, params_dtype=ours.weight.dtype,
                              return_bias=getattr(ours, "return_bias", False), disable_tp=True)
    return Built(by_position(module), module)


def column_parallel_linear(ours: Any) -> Built:
    """One rank's rows, without exchange."""
    from vllm.model_executor.layers.linear import ColumnParallelLinear

    rows, columns = ours.weight.shape
    module = ColumnParallelLinear(columns, rows, ours.bias is not None, params_dtype=ours.weight.dtype,
                                  return_bias=ours.return_bias, disable_tp=True)
    return Built(by_position(module), module)


def merged_column_parallel_linear(ours: Any) -> Built:
    """One rank's rows of every part, without exchange."""
    from vllm.model_executor.layers.linear import MergedColumnParallelLinear

    sizes = [size // ours.tp_group.size for size in ours.output_sizes]
    module = MergedColumnParallelLinear(ours.weight.shape[1], sizes, ours.bias is not None,
                                        params_dtype=ours.weight.dtype, return_bias=ours.return_bias, disable_tp=True)
    return Built(by_position(module), module)


def qkv_parallel_linear(ours: Any) -> Built:
    """One rank's heads."""
    from vllm.model_executor.layers.linear import QKVParallelLinear

    module = QKVParallelLinear(ours.weight.shape[1], ours.head_size, ours.num_heads, ours.num_kv_heads,
                               ours.bias is not None, params_dtype=ours.weight.dtype, return_bias=ours.return_bias,
                               disable_tp=True)
    return Built(by_position(module), module)


def row_parallel_linear(ours: Any) -> Built:
    """One rank's columns; the sum over ranks by the baseline's group."""
    from vllm.model_executor.layers.linear import RowParallelLinear

    if not ours.input_is_parallel and ours.tp_group.size > 1:
        raise ValueError("input_is_parallel=False at TP over 1 needs a group of that size")
    rows, columns = ours.weight.shape
    module = RowParallelLinear(columns, rows, ours.bias is not None, params_dtype=ours.weight.dtype,
                               return_bias=ours.return_bias, disable_tp=True)
    return Built(summed(by_position(module), ours), module)


def embedding(ours: Any) -> Built:
    """VocabParallelEmbedding of one rank, without padding."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    rows, columns = ours.weight.shape
    module = VocabParallelEmbedding(rows, columns, ours.weight.dtype, padding_size=1)
    return Built(by_position(module), module)


def parallel_lm_head(ours: Any) -> Built:
    """The product that vLLM's logits processor makes with the head's weight."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    rows, columns = ours.weight.shape
    module = ParallelLMHead(rows, columns, ours.bias is not None, ours.weight.dtype, padding_size=1)
    return Built(lambda hidden_states: module.quant_method.apply(module, hidden_states, module.bias), module)


def llama_mlp(ours: Any) -> Built:
    """One rank's share of the block; the sum over ranks by the baseline's group."""
    from vllm.model_executor.models.llama import LlamaMLP

    down = ours.down_proj
    hidden_size, intermediate_size = down.weight.shape
    module = LlamaMLP(hidden_size, intermediate_size, "silu", bias=down.bias is not None, disable_tp=True)
    return Built(summed(by_position(module), down), module)


def topk_softmax(ours: Any) -> Built:
    """fused_topk; the third result, of the kernel's own use, is left out."""
    from vllm.model_executor.layers.fused_moe.router.fused_topk_router import fused_topk

    top_k, renormalize = ours.top_k, ours.renormalize
    return Built(lambda gating_output: fused_topk(gating_output, gating_output, top_k, renormalize)[:2])


def grouped_topk(ours: Any) -> Built:
    """vLLM's GroupedTopk; of the hidden states it reads the number of rows alone."""
    from vllm.model_executor.layers.fused_moe.router.grouped_topk_router import GroupedTopk

    module = GroupedTopk(ours.topk, ours.renormalize, ours.num_expert_group, ours.topk_group, ours.scoring_func,
                         ours.routed_scaling_factor)

    def call(gating_output: torch.Tensor, e_score_correction_bias: torch.Tensor | None = None) -> Any:
        return module(gating_output, gating_output, e_score_correction_bias)

    return Built(call)


def moe_align(ours: Any) -> Built:
    """moe_align_block_size; it allocates a block more than can be needed where rows do not come out even."""
    from vllm.model_executor.layers.fused_moe.moe_align_block_size import moe_align_block_size

    experts = ours.num_experts

    def call(topk_ids: torch.Tensor, block_size: int) -> tuple[torch.Tensor, ...]:
        rows, blocks, padded = moe_align_block_size(topk_ids, block_size, experts, pad_sorted_ids=True)
        used = min(topk_ids.numel(), experts)
        most = used + (topk_ids.numel() - used) // block_size
        return rows[: most * block_size], blocks[:most], padded

    return Built(call)


def moe_sum(ours: Any) -> Built:
    """The kernel moe_sum, into new memory."""
    from vllm import _custom_ops as ops

    del ours

    def call(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty((x.shape[0], x.shape[2]), dtype=x.dtype, device=x.device)
        ops.moe_sum(x, out)
        return out

    return Built(call)


def store_kvcache(ours: Any) -> Built:
    """reshape_and_cache_flash without scaling."""
    from vllm import _custom_ops as ops

    del ours
    one = torch.ones(1, dtype=torch.float32)

    def call(key: torch.Tensor, value: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor,
             slot_mapping: torch.Tensor) -> None:
        ops.reshape_and_cache_flash(key, value, key_cache, value_cache, slot_mapping, "auto", one, one)

    return Built(call)


def store_mla_cache(ours: Any) -> Built:
    """concat_and_cache_mla without scaling."""
    from vllm import _custom_ops as ops

    del ours
    one = torch.ones(1, dtype=torch.float32)

    def call(kv_c: torch.Tensor, k_pe: torch.Tensor, kv_cache: torch.Tensor, slot_mapping: torch.Tensor) -> None:
        ops.concat_and_cache_mla(kv_c, k_pe.flatten(1), kv_cache, slot_mapping, "auto", one)

    return Built(call)


def flash_attn_prefill(ours: Any) -> Built:
    """flash_attn_varlen_func with packed keys."""
    from vllm.vllm_flash_attn import flash_attn_varlen_func

    settings = attention_settings(ours)

    def call(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seqlens_q: torch.Tensor,
             cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int,
             sinks: torch.Tensor | None = None) -> Any:
        return flash_attn_varlen_func(query, key, value, max_seqlen_q=max_seqlen_q, cu_seqlens_q=cu_seqlens_q,
                                      max_seqlen_k=max_seqlen_k, cu_seqlens_k=cu_seqlens_k, s_aux=sinks, **settings)

    return Built(call)


def flash_attn_decode(ours: Any) -> Built:
    """flash_attn_varlen_func with one query a sequence and paged keys; where the queries lie is told once."""
    from vllm.vllm_flash_attn import flash_attn_varlen_func

    settings, starts = attention_settings(ours), dict[int, torch.Tensor]()

    def call(query: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, block_table: torch.Tensor,
             seqused_k: torch.Tensor, max_seqlen_k: int, sinks: torch.Tensor | None = None) -> Any:
        batch = query.shape[0]
        if batch not in starts:
            starts[batch] = torch.arange(batch + 1, dtype=torch.int32, device=query.device)
        return flash_attn_varlen_func(query, key_cache, value_cache, max_seqlen_q=1, cu_seqlens_q=starts[batch],
                                      max_seqlen_k=max_seqlen_k, seqused_k=seqused_k, block_table=block_table,
                                      s_aux=sinks, **settings)

    return Built(call)


def attention_settings(ours: Any) -> dict[str, Any]:
    """What both attention kernels are told: scale, window, soft cap (0: none), and FlashAttention 3 on Hopper."""
    window = [ours.sliding_window - 1, 0] if ours.sliding_window else [-1, -1]
    version = 3 if torch.cuda.get_device_capability()[0] == 9 else 2
    return {"softmax_scale": ours.scale, "causal": True, "window_size": window, "softcap": ours.logits_soft_cap or 0.0,
            "fa_version": version}  # fmt: skip


def fused_moe(ours: Any) -> Built:
    """fused_topk, then fused_experts."""
    return Built(experts_of(ours))


def moe_block(ours: Any) -> Built:
    """The router's product, then as fused_moe."""
    experts, gate = experts_of(ours.experts), ours.gate

    def call(hidden_states: torch.Tensor) -> torch.Tensor:
        return experts(hidden_states, nn.functional.linear(hidden_states, gate.weight))

    return Built(call)


def experts_of(ours: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Routing and experts on the weights of our FusedMoE, whose layout is vLLM's."""
    from vllm.model_executor.layers.fused_moe.fused_moe import fused_experts
    from vllm.model_executor.layers.fused_moe.router.fused_topk_router import fused_topk

    router = ours.router

    def call(hidden_states: torch.Tensor, router_logits: torch.Tensor) -> torch.Tensor:
        weights, ids, _ = fused_topk(hidden_states, router_logits, router.top_k, router.renormalize)
        y: torch.Tensor = fused_experts(hidden_states, ours.w13.weight, ours.w2.weight, weights, ids)
        return y

    return summed(call, ours)


def summed(call: Callable[..., Any], ours: Any) -> Callable[..., Any]:
    """The call, its first result summed over the ranks as our layer does it."""
    if not ours.reduce_results:
        return call

    def total(*inputs: torch.Tensor, **arguments: torch.Tensor) -> Any:
        y = call(*inputs, **arguments)
        return (ours.all_reduce(y[0]), *y[1:]) if isinstance(y, tuple) else ours.all_reduce(y)

    return total


def by_position(module: nn.Module) -> Callable[..., Any]:
    """A call with one argument of whatever name."""
    def call(**arguments: torch.Tensor) -> Any:
        (value,) = arguments.values()
        return module(value)

    return call


BUILDERS: dict[str, Callable[[Any], Built]] = {
    "RMSNorm": rms_norm, "GemmaRMSNorm": gemma_rms_norm, "SiluAndMul": silu_and_mul, "GeluAndMul": gelu_and_mul,
    "SwigluOAIAndMul": swigluoai_and_mul, "RotaryEmbedding": rotary_emb, "Linear": linear,
    "ReplicatedLinear": linear, "ColumnParallelLinear": column_parallel_linear,
    "MergedColumnParallelLinear": merged_column_parallel_linear, "QKVParallelLinear": qkv_parallel_linear,
    "RowParallelLinear": row_parallel_linear, "Embedding": embedding, "VocabParallelEmbedding": embedding,
    "ParallelLMHead": parallel_lm_head, "LlamaMLP": llama_mlp, "TopKSoftmax": topk_softmax,
    "GroupedTopk": grouped_topk, "MoeAlignBlockSize": moe_align, "MoeSum": moe_sum, "StoreKVCache": store_kvcache,
    "StoreMLACache": store_mla_cache,
    "FlashAttnPrefill": flash_attn_prefill, "FlashAttnDecode": flash_attn_decode, "FusedMoE": fused_moe,
    "MixtralMoE": moe_block, "Qwen3MoeSparseMoeBlock": moe_block,
}  # fmt: skip
"""By the name of our class; the same names as in catalog.ANYWHERE and ON_CUDA."""
