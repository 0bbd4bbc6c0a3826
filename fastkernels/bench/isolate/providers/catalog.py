"""Which baselines there are and which operators vLLM has, told without importing torch or vLLM."""

import importlib.util

from fastkernels.errors import install_command
from fastkernels.manifest import Scenario

VLLM = "vllm"
BASELINES = ("auto", "native", VLLM)
"""What a run may name: the device's production path, plain PyTorch, vLLM's own modules."""

INSTALL = f"{install_command('vllm')} (its wheels pin torch: vllm 0.26.0 needs torch 2.11.0)"

ANYWHERE = frozenset({
    "RMSNorm", "GemmaRMSNorm", "SiluAndMul", "GeluAndMul", "SwigluOAIAndMul", "RotaryEmbedding",
    "Linear", "ReplicatedLinear", "ColumnParallelLinear", "MergedColumnParallelLinear", "QKVParallelLinear",
    "RowParallelLinear", "Embedding", "VocabParallelEmbedding", "ParallelLMHead", "LlamaMLP",
})  # fmt: skip
"""Classes of ours whose counterpart in vLLM runs on a CPU too."""

ON_CUDA = frozenset({
    "TopKSoftmax", "GroupedTopk", "MoeAlignBlockSize", "MoeSum", "StoreKVCache", "StoreMLACache", "FlashAttnPrefill",
    "FlashAttnDecode", "FusedMoE", "MixtralMoE", "Qwen3MoeSparseMoeBlock",
})  # fmt: skip
"""Classes of ours whose counterpart is a kernel of vLLM's CUDA wheel."""

_BY_TRANSFORMERS = "vLLM runs this family by transformers' own classes"

LACKING = {
    "LayerNorm": "vLLM's models use torch.nn.LayerNorm, as the native baseline does (--fk-baseline=native)",
    "GELU": "vLLM's models use torch.nn.GELU, as the native baseline does (--fk-baseline=native)",
    "Glm4MoE": "vLLM's block hands its experts to its engine's runner, which only the engine sets up",
    **dict.fromkeys(("SmolLM3Attention", "SmolLM3DecoderLayer", "Starcoder2Attention", "Starcoder2MLP",
                     "Starcoder2DecoderLayer"), _BY_TRANSFORMERS),
    "AllReduce": "one rank alone has nothing to reduce",
    "MoeGroupedGemm": "vLLM multiplies within fused_experts, with a block size of its own choice; see fused_moe",
    "MLADecode": "vLLM's attention backends read latent caches with FlashMLA, on a schedule and pages of their own",
    "MLPBlock": "vLLM's block hands its experts to its engine's runner, which only the engine sets up",
    "DeepseekV2MoE": "vLLM's block hands its experts to its engine's runner, which only the engine sets up",
}
"""Classes that vLLM has nothing for that could be called alone, and why."""

IN_ENGINE = ("vLLM's {name} reads its engine's forward context and caches and cannot be called alone; grade the "
             "operators that it is made of")


def vllm_missing() -> str | None:
    """Why vLLM cannot be the baseline here, with the command that installs it; None where it is installed."""
    return None if importlib.util.find_spec("vllm") else f"vllm is not installed: {INSTALL}"


def why_not(scenario: Scenario, device: str) -> str | None:
    """Why vLLM is no baseline for this scenario on `cpu` or `cuda`; None where it is."""
    name = scenario.class_name
    if name in LACKING:
        return LACKING[name]
    if name not in ANYWHERE | ON_CUDA:
        return IN_ENGINE.format(name=name)
    if name in ON_CUDA and device != "cuda":
        return f"vLLM's kernel for {name} runs on CUDA only"
    if name == "VocabParallelEmbedding" and scenario.tp > 1:
        return f"vLLM's VocabParallelEmbedding needs a group of {scenario.tp} processes; grade it at TP 1"
    if name == "GroupedTopk" and "e_score_correction_bias" not in {spec.name for spec in scenario.inputs}:
        return "without a correction bias vLLM's grouped_topk returns the experts of a token in any order"
    if name == "FusedMoE" and (scenario.init.get("has_bias") or scenario.init.get("use_grouped_topk")
                               or scenario.init.get("activation", "silu") != "silu"):
        return "vLLM's fused_experts is set up for softmax routing, SiLU and no biases here"
    return None
