"""Every operator that entries are generated for, in the order of the manifest."""

from dataclasses import dataclass
from functools import partial

from fastkernels.manifest import blocks, models, moe, operators
from fastkernels.manifest.drafts import Rule


@dataclass(frozen=True)
class Operator:
    """One operator of the task tree."""

    level: int
    """1 kernel, 2 block, 3 decoder layer, 4 model."""
    class_name: str
    """Its class."""
    rule: Rule
    """What makes its entries."""
    module: str = ""
    """File stem; the operator's name where empty."""


def _linear(class_name: str, rule: Rule) -> Operator:
    return Operator(2, class_name, rule, "parallel_linear")


def _named(op: str, class_name: str, level: int = 2) -> tuple[str, Operator]:
    """A family's own block or layer."""
    rule = blocks.decoder_layer if level == 3 else blocks.attention_block
    if op.endswith("_moe"):
        rule = moe.block_of_experts
    elif op.endswith("_mlp"):
        rule = blocks.dense_mlp
    return op, Operator(level, class_name, partial(rule, op=op))


OPERATORS: dict[str, Operator] = {
    "rms_norm": Operator(1, "RMSNorm", operators.rms_norm),
    "gemma_rms_norm": Operator(1, "GemmaRMSNorm", operators.gemma_rms_norm),
    "layer_norm": Operator(1, "LayerNorm", operators.layer_norm),
    "silu_and_mul": Operator(1, "SiluAndMul", operators.silu_and_mul),
    "gelu_and_mul": Operator(1, "GeluAndMul", operators.gelu_and_mul),
    "gelu": Operator(1, "GELU", operators.gelu),
    "swigluoai_and_mul": Operator(1, "SwigluOAIAndMul", operators.swigluoai_and_mul),
    "rotary_emb": Operator(1, "RotaryEmbedding", operators.rotary_emb),
    "linear": Operator(1, "Linear", operators.linear),
    "embedding": Operator(1, "Embedding", operators.embedding),
    "topk_softmax": Operator(1, "TopKSoftmax", moe.topk_softmax),
    "grouped_topk": Operator(1, "GroupedTopk", moe.grouped_topk),
    "moe_align": Operator(1, "MoeAlignBlockSize", moe.moe_align),
    "moe_grouped_gemm": Operator(1, "MoeGroupedGemm", moe.moe_grouped_gemm),
    "moe_sum": Operator(1, "MoeSum", moe.moe_sum),
    "store_kvcache": Operator(1, "StoreKVCache", operators.store_kvcache),
    "store_mla_cache": Operator(1, "StoreMLACache", operators.store_mla_cache),
    "flash_attn_prefill": Operator(1, "FlashAttnPrefill", operators.flash_attn_prefill),
    "flash_attn_decode": Operator(1, "FlashAttnDecode", operators.flash_attn_decode),
    "mla_decode": Operator(1, "MLADecode", operators.mla_decode),
    "allreduce": Operator(1, "AllReduce", operators.allreduce),
    "qkv_parallel_linear": _linear("QKVParallelLinear", blocks.qkv_parallel_linear),
    "merged_column_parallel_linear": _linear("MergedColumnParallelLinear", blocks.merged_column_parallel_linear),
    "row_parallel_linear": _linear("RowParallelLinear", blocks.row_parallel_linear),
    "column_parallel_linear": _linear("ColumnParallelLinear", blocks.column_parallel_linear),
    "replicated_linear": _linear("ReplicatedLinear", blocks.replicated_linear),
    "vocab_parallel_embedding": Operator(2, "VocabParallelEmbedding", blocks.vocab_parallel_embedding),
    "parallel_lm_head": Operator(2, "ParallelLMHead", blocks.parallel_lm_head),
    "attention": Operator(2, "Attention", blocks.attention),
    "fused_moe": Operator(2, "FusedMoE", moe.fused_moe),
    **dict(
        [
            _named("llama_attention", "LlamaAttention"),
            _named("qwen2_attention", "Qwen2Attention"),
            _named("qwen3_attention", "Qwen3Attention"),
            _named("gemma3_attention", "Gemma3Attention"),
            _named("gpt_oss_attention", "OAIAttention"),
            _named("deepseek_v2_attention", "DeepseekV2MLAAttention"),
            _named("granite_attention", "GraniteAttention"),
            _named("smollm3_attention", "SmolLM3Attention"),
            _named("olmo2_attention", "Olmo2Attention"),
            _named("gemma2_attention", "Gemma2Attention"),
            _named("starcoder2_attention", "Starcoder2Attention"),
            _named("glm4_moe_attention", "Glm4MoeAttention"),
            _named("llama_mlp", "LlamaMLP"),
            _named("gemma3_mlp", "Gemma3MLP"),
            _named("starcoder2_mlp", "Starcoder2MLP"),
            _named("mixtral_moe", "MixtralMoE"),
            _named("qwen3_moe", "Qwen3MoeSparseMoeBlock"),
            _named("gpt_oss_moe", "MLPBlock"),
            _named("deepseek_v2_moe", "DeepseekV2MoE"),
            _named("glm4_moe", "Glm4MoE"),
            _named("llama_decoder_layer", "LlamaDecoderLayer", 3),
            _named("mixtral_decoder_layer", "MixtralDecoderLayer", 3),
            _named("qwen3_moe_decoder_layer", "Qwen3MoeDecoderLayer", 3),
            _named("gemma3_decoder_layer", "Gemma3DecoderLayer", 3),
            _named("gpt_oss_decoder_layer", "TransformerBlock", 3),
            _named("deepseek_v2_decoder_layer", "DeepseekV2DecoderLayer", 3),
            _named("qwen2_decoder_layer", "Qwen2DecoderLayer", 3),
            _named("qwen3_decoder_layer", "Qwen3DecoderLayer", 3),
            _named("granite_decoder_layer", "GraniteDecoderLayer", 3),
            _named("smollm3_decoder_layer", "SmolLM3DecoderLayer", 3),
            _named("olmo2_decoder_layer", "Olmo2DecoderLayer", 3),
            _named("gemma2_decoder_layer", "Gemma2DecoderLayer", 3),
            _named("starcoder2_decoder_layer", "Starcoder2DecoderLayer", 3),
            _named("glm4_moe_decoder_layer", "Glm4MoeDecoderLayer", 3),
        ]
    ),
    **{
        models.operator_name(name): Operator(4, name, partial(models.whole_model, architecture=name), module)
        for name, module in models.model_classes().items()
    },
}
"""Operators by name."""
