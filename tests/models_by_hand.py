"""Scenarios of whole models, small enough for a test: the project's own generator on tiny configs."""

from pathlib import Path
from typing import Any

from fastkernels.manifest import Scenario, Selection
from fastkernels.manifest.generate import generate
from fastkernels.manifest.loader import parse_manifest
from fastkernels.manifest.reader import parse_config

TINY: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "bfloat16",
}  # fmt: skip
"""Sizes; the vocabulary is padded to 320."""
WINDOWED = {"num_hidden_layers": 12, "sliding_window": 24, "sliding_window_pattern": 6, "query_pre_attn_scalar": 32,
            "hidden_activation": "gelu_pytorch_tanh"}  # fmt: skip
EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK = {
    "num_key_value_heads": 4, "first_k_dense_replace": 3, "n_routed_experts": 16, "num_experts_per_tok": 4,
    "n_shared_experts": 1, "moe_intermediate_size": 32, "n_group": 4, "topk_group": 2, "kv_lora_rank": 32,
    "q_lora_rank": 48, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "routed_scaling_factor": 2.0,
    "num_hidden_layers": 6, "model_type": "deepseek_v3",
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "gemma3": ("Gemma3ForCausalLM", WINDOWED),
    "mixtral": ("MixtralForCausalLM", EXPERTS),
    "deepseek": ("DeepseekV3ForCausalLM", DEEPSEEK),
}
"""(architecture, what its config has otherwise) of one model of each kind of structure."""


def manifest_text(name: str, **changes: Any) -> str:
    """The manifest of one tiny model at TP 1 and 2."""
    architecture, own = MODELS[name]
    config = parse_config({**TINY, **own, "architectures": [architecture], **changes}, name, f"tiny-{name}", name)
    return generate([config], (1, 2))


def model(
    name: str, tp: int = 1, variant: str = "", tokens: int = 6, prefill: bool = False, **changes: Any
) -> Scenario:  # fmt: skip
    """One scenario of level 4 of a tiny model, at another token count than listed."""
    manifest = parse_manifest(manifest_text(name, **changes), Path("tiny.yaml"))
    found = next(s for s in manifest.scenarios(Selection(levels=(4,), tps=(tp,)))
                 if s.variant == variant and (s.tokens >= 512) == (prefill or bool(variant)))  # fmt: skip
    return found.with_tokens(tokens)
