"""Why an interface differs from vLLM's: the tables of vllm_interfaces.py."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Explanation:
    """One reason and the differences that it explains."""

    classes: str
    """Patterns of our class names, separated by blanks."""
    keys: str
    """Patterns of differences, separated by blanks: `-quant_config +dtype`; Difference.key tells the signs."""
    text: str
    """The reason, a sentence."""

    def covers(self, name: str, key: str) -> bool:
        """True where both match."""
        return (any(fnmatchcase(name, pattern) for pattern in self.classes.split())
                and any(fnmatchcase(key, pattern) for pattern in self.keys.split()))


COUNTERPARTS = {
    "AllReduce": "tensor_model_parallel_all_reduce",
    "FlashAttnDecode": "flash_attn_varlen_func",
    "FlashAttnPrefill": "flash_attn_varlen_func",
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "MLADecode": "flash_mla_with_kvcache",
    "MoeAlignBlockSize": "moe_align_block_size",
    "MoeGroupedGemm": "invoke_fused_moe_triton_kernel",
    "MoeSum": "moe_sum",
    "StoreMLACache": "concat_and_cache_mla",
    "StoreKVCache": "reshape_and_cache_flash",
    "TopKSoftmax": "fused_topk",
    "Olmo2Attention": "Olmo3Attention",
    "Olmo2DecoderLayer": "Olmo3DecoderLayer",
    "Olmo2Model": "Olmo3Model",
    "Olmo2ForCausalLM": "Olmo3ForCausalLM",
    "Phi3Model": "LlamaModel",
}
"""vLLM's name for a class of ours that is not called alike; `NAME in FILE` where several files define it."""

_BY_TRANSFORMERS = "vLLM runs this family by transformers' own classes (its registry: TransformersForCausalLM)"

OWN = {
    **dict.fromkeys(("SmolLM3Attention", "SmolLM3DecoderLayer", "SmolLM3Model", "SmolLM3ForCausalLM",
                     "Starcoder2Attention", "Starcoder2MLP", "Starcoder2DecoderLayer", "Starcoder2Model",
                     "Starcoder2ForCausalLM"), _BY_TRANSFORMERS),
    "Embedding": "the lookup inside VocabParallelEmbedding is a method of its quantisation scheme "
                 "(UnquantizedEmbeddingMethod.embedding); here it is an operator, so that it can be replaced",
    "Linear": "the product inside the parallel layers is a method of their quantisation scheme "
              "(UnquantizedLinearMethod.apply); here it is an operator that they inherit from, so that it can be "
              "replaced",
}
"""Classes of ours that vLLM has no class or function for, and what does their work there."""

WANTED = (
    "RMSNorm", "GemmaRMSNorm", "SiluAndMul", "GeluAndMul", "SwigluOAIAndMul", "RotaryEmbedding", "GroupedTopk",
    "ReplicatedLinear", "ColumnParallelLinear", "MergedColumnParallelLinear", "QKVParallelLinear", "RowParallelLinear",
    "VocabParallelEmbedding", "ParallelLMHead", "Attention", "FusedMoE",
    "LlamaAttention", "LlamaMLP", "LlamaDecoderLayer", "LlamaModel", "LlamaForCausalLM", "MistralForCausalLM",
    "Qwen2Attention", "Qwen2DecoderLayer", "Qwen2Model", "Qwen2ForCausalLM",
    "Qwen3Attention", "Qwen3DecoderLayer", "Qwen3Model", "Qwen3ForCausalLM",
    "Gemma3Attention", "Gemma3MLP", "Gemma3DecoderLayer", "Gemma3Model", "Gemma3ForCausalLM",
    "MixtralMoE", "MixtralDecoderLayer", "MixtralModel", "MixtralForCausalLM",
    "Qwen3MoeSparseMoeBlock", "Qwen3MoeDecoderLayer", "Qwen3MoeModel", "Qwen3MoeForCausalLM",
    "OAIAttention", "MLPBlock", "TransformerBlock", "GptOssModel", "GptOssForCausalLM",
    "DeepseekV2MLAAttention", "DeepseekV2MoE", "DeepseekV2DecoderLayer", "DeepseekV2Model", "DeepseekV2ForCausalLM",
    "DeepseekV3ForCausalLM", "Phi3ForCausalLM", "GraniteAttention", "GraniteDecoderLayer", "GraniteModel",
    "GraniteForCausalLM", "Olmo3ForCausalLM", "Gemma2Attention", "Gemma2DecoderLayer", "Gemma2Model",
    "Gemma2ForCausalLM", "Glm4MoeAttention", "Glm4MoE", "Glm4MoeDecoderLayer", "Glm4MoeModel", "Glm4MoeForCausalLM",
)  # fmt: skip
"""Classes of vLLM's that the zoo's families are made of; one that is missing in the task tree is an error."""

ATTENTION = "*Attention *AttentionBlock"
PARALLEL = "ReplicatedLinear ColumnParallelLinear MergedColumnParallelLinear QKVParallelLinear RowParallelLinear"
VOCAB = "VocabParallelEmbedding ParallelLMHead"
MODELS = "*Model *ForCausalLM *ForConditionalGeneration"
LAYERS = "*DecoderLayer TransformerBlock"

EXPLANATIONS = (
    Explanation("*", "-quant_config", "Weights are graded as the checkpoints' dtypes hold them; a quantised operator "
                "would be one of its own here, with its own baseline and tolerance."),
    Explanation("*", "-cache_config", "The caches come with the forward context, whose owner (the engine, the grader) "
                "chooses their pages and dtype."),
    Explanation("*", "-vllm_config +config =config ~__init__ !prefix", "vLLM's config object holds a whole engine's; a "
                "module here takes the model's own config (any object with the names of Hugging Face's config.json), "
                "by position, so `prefix` may be given by position too."),
    Explanation("*", "+dtype =dtype", "vLLM sets torch's default dtype while it builds a model, or takes the dtype as "
                "required; here it is an argument, and None means torch's default, so that a scenario can name it."),
    Explanation("*", "-disable_tp -tp_size -dp_size -parallel_config -is_sequence_parallel -already_sequence_parallel "
                "-pcp_size -enable_eplb -num_redundant_experts", "The tensor parallel group is the one in force "
                "while a layer is built (fastkernels.runtime.parallel); data, sequence and expert parallelism are not "
                "part of the zoo."),
    Explanation(MODELS, "-intermediate_tensors", "Hands activations from one pipeline stage to the next; there is no "
                "pipeline parallelism here."),
    Explanation(MODELS + " " + LAYERS, "-layer_type -decoder_layer_type -attn_layer_type", "Lets derived models swap "
                "the layer's class; here a family's model names its layer as a class attribute."),
    Explanation("*", "-extra_layer_kwargs -kwargs -t_cond -llama_4_scaling", "For other models that share the class in "
                "vLLM; no family of the zoo passes it."),
    Explanation(ATTENTION, "-attn_type -dual_chunk_attention_config -attn_backend -kv_sharing_target_layer_name "
                "-mm_prefix_clamp_sliding_window -use_alibi_sqrt -alibi_slopes -head_size_v", "Encoders, ALiBi, shared "
                "caches, dual chunk attention and a choice of backend: no family of the zoo has them."),
    Explanation("Gemma3Attention", "-attn_logits_soft_cap", "Soft-capped scores are Gemma 2's; Gemma 3 has none."),
    Explanation(ATTENTION + " " + LAYERS, "-per_layer_sliding_window +sliding_window", "The window of the layer under "
                "a shorter name; vLLM falls back to one window for all layers in its cache config, which is not here. "
                "Its Qwen2 reads it there."),
    Explanation("Attention", "+sinks -extra_impl_args", "vLLM passes attention sinks among the untyped extra arguments "
                "of its backend; here they are the one named argument of that kind."),
    Explanation("Attention", "-output_shape -output_dtype", "For backends that return another shape or a quantised "
                "output; here it is that of the query."),
    Explanation("Qwen2Attention", "-qk_norm -rms_norm_eps", "For models that add query and key norms to Qwen2's block; "
                "Qwen3Attention is a class of its own here."),
    Explanation("Qwen3Attention", "+bias_o_proj", "Qwen3's config has `attention_bias` for all four projections, as "
                "transformers applies it; vLLM's output projection never has a bias."),
    Explanation(PARALLEL, "-skip_bias_add", "Leaves the bias to a later fused kernel; here it is always added, and the "
                "second result, vLLM's bias that was left out, is always None."),
    Explanation("QKVParallelLinear", "-v_head_size", "For models whose values are narrower than their keys; here those "
                "have latent attention."),
    Explanation(f"{PARALLEL} {VOCAB}", "-input_ +x +hidden_states +input_ids",
                "The input under another name (vLLM "
                "itself has both `x` and `input_`); models pass it by position."),
    Explanation(VOCAB, "-org_num_embeddings", "The vocabulary before LoRA adds to it; here there is none but that."),
    Explanation(VOCAB, "=padding_size", "Equal: DEFAULT_VOCAB_PADDING_SIZE is 64."),
    Explanation("*MLP", "=hidden_act", "Every family's is SiLU; other values are refused, as in vLLM."),
    Explanation("RMSNorm", "-var_hidden_size -has_weight", "A variance over part of a row and a norm without weights: "
                "no family of the zoo has them."),
    Explanation("SiluAndMul", "-compile_native", "Whether vLLM compiles the plain PyTorch path; here that is the "
                "oracle and stays plain."),
    Explanation("RotaryEmbedding", "-init_cache +rope_scaling =is_neox_style", "vLLM has a subclass for each way to "
                "scale and get_rope to choose it; here one class takes the config's rope_scaling, so that one operator "
                "covers them, and has get_rope's default for is_neox_style."),
    Explanation("RotaryEmbedding", "=key", "vLLM's key may be None for layers that share their keys' cache; no family "
                "of the zoo does."),
    Explanation("GroupedTopk TopKSoftmax", "-hidden_states -num_fused_shared_experts -indices_type -scoring_func "
                "-topk +top_k =renormalize", "The choice depends on the logits alone; hidden states are passed for "
                "their shape. The class takes what the router's config gives (`top_k`) once and not in every call; "
                "scores other than softmax are GroupedTopk's."),
    Explanation("FlashAttn*", "-q -k -v +query +key +value +key_cache +value_cache -softmax_scale +scale",
                "The names of vLLM's Attention layer, not those of the library; keys and values of a decode lie in "
                "the cache, so they are called that."),
    Explanation("FlashAttn*", "+num_heads +head_size +num_kv_heads", "A class is built for one layer's heads; the "
                "function reads them off its tensors."),
    Explanation("FlashAttn*", "-causal -dropout_p -deterministic -return_attn_probs -return_softmax_lse "
                "-alibi_slopes -q_v -?_descale -output_scale -cp_* -mask_mod -aux_tensors -dynamic_causal",
                "Always causal and without the other features: no family of the zoo asks for them."),
    Explanation("FlashAttn*", "-out -scheduler_metadata -num_splits -fa_version", "How the library is to compute, "
                "which is the implementation's own matter; outputs are new memory."),
    Explanation("FlashAttn*", "-softcap +logits_soft_cap", "The name of vLLM's Attention layer, with None for its 0."),
    Explanation("LayerNorm", "-dim +normalized_shape =eps", "The name and the default of torch.nn.LayerNorm, which "
                "models use; vLLM's class of this name is for weights in float32."),
    Explanation("GELU", "+approximate", "torch.nn.GELU's, which vLLM's get_act_fn returns for `gelu_pytorch_tanh`."),
    Explanation("FlashAttn*", "-window_size +sliding_window -s_aux +sinks", "The number of keys a token sees, itself "
                "included, for the pair (number - 1, 0); sinks under the name that models give them."),
    Explanation("FlashAttnDecode", "-max_seqlen_q -cu_seqlens_q -cu_seqlens_k =seqused_k =block_table",
                "One new token a sequence, always with a paged cache, so that these follow or are required."),
    Explanation("FlashAttnPrefill", "-seqused_k -block_table =cu_seqlens_k", "Keys are packed as queries are, so that "
                "their boundaries are required and there are no pages."),
    Explanation("MLADecode", "-q -k_cache -cache_seqlens -head_dim_v -softmax_scale +query +kv_cache +seqused_k +scale "
                "+kv_lora_rank", "The names of FlashAttnDecode and of vLLM's MLA layer; kv_lora_rank is the width of a "
                "value."),
    Explanation("MLADecode", "+num_heads +qk_rope_head_dim +max_seqlen_k", "Built for one layer's heads, as the other "
                "attention operators; the longest sequence is given as FlashAttnDecode's."),
    Explanation("MLADecode", "-tile_scheduler_metadata -num_splits -out", "How the library is to compute, which is the "
                "implementation's own matter; outputs are new memory."),
    Explanation("MLADecode", "-causal -is_fp8_kvcache -indices -attn_sink -extra_* -topk_length", "One new token sees "
                "its whole sequence; caches of 8 bits and sparse attention are not part of the zoo."),
    Explanation("DeepseekV2MLAAttention DeepseekV2DecoderLayer", "-topk_indices_buffer", "For DeepSeek-V3.2's sparse "
                "attention, which is not part of the zoo."),
    Explanation("DeepseekV2DecoderLayer", "=prefix", "May be left out where a layer is called alone, as in every other "
                "family."),
    Explanation("StoreKVCache StoreMLACache", "-kv_cache_dtype -k_scale -v_scale -scale",
                "The cache is of the model's dtype: nothing is "
                "scaled."),
    Explanation("Moe*", "-input -output -A -B -C +x", "Takes its input and returns new memory; vLLM's kernels write "
                "into memory that is passed. Weights are the module's own, as Linear's."),
    Explanation("Moe*", "-topk_ids -expert_map -pad_sorted_ids -ignore_invalid_experts", "For expert parallelism, "
                "where some experts lie on other ranks; here a rank holds a share of every expert."),
    Explanation("MoeGroupedGemm", "+num_experts +input_size +output_size +bias =sorted_token_ids =topk_weights "
                "=num_tokens_post_padded =top_k -B_bias", "The module is built for one layer's experts and their "
                "bias; without sorted ids the rows are taken as they are."),
    Explanation("MoeGroupedGemm", "-A_scale -B_scale -mul_routed_weight -config -compute_type -use_* -per_channel_* "
                "-block_shape", "Quantisation, tile sizes and dtypes, which are the implementation's own matter; the "
                "routed weights apply where they are given."),
    Explanation("FusedMoE", "+hidden_states +router_logits +e_score_correction_bias", "vLLM's FusedMoE is a function "
                "that builds a runner, which is called with these; here it is the module itself."),
    Explanation("FusedMoE", "-runner_* -routed_experts_* -router -custom_routing_function -zero_expert_type "
                "-hash_indices_table -routed_input_transform -routed_output_transform -intermediate_pad "
                "-router_logits_dtype -apply_router_weight_on_input",
                "Other ways to route, transform or pad: no family of the zoo has them."),
    Explanation("FusedMoE", "-n_shared_experts -shared_experts -shared_expert_gate -gate =reduce_results",
                "Router and shared experts belong to the family's block, which adds their outputs and then sums over "
                "the ranks once; so this part does not by default."),
    Explanation("FusedMoE", "-ckpt_names", "The names in a checkpoint are given to make_expert_params_mapping, which "
                "load_weights asks."),
    Explanation("FusedMoE", "=swiglu_alpha =swiglu_limit -swiglu_beta", "GPT-OSS's values where nothing is said; they "
                "count for its activation alone. vLLM's SwigluOAIAndMul takes no beta either."),
    Explanation("DeepseekV2MoE FusedMoE", "-reduce_results -apply_routed_scale_to_output", "The block always sums over "
                "the ranks, and scales the weights of the chosen experts (vLLM may scale the sum instead, the same "
                "up to rounding)."),
    Explanation("MLPBlock", "-layer_idx", "Names vLLM's layer; `prefix` does that here."),
    Explanation("AllReduce", "-input_ +x", "The input under the name that every operator of level 1 gives it."),
)
"""The first that covers a difference explains it."""
