"""Tensor parallelism over two GPUs with NCCL: every family's logits and greedy tokens are transformers'."""

import pytest
from models import (
    test_deepseek_v2_parity,
    test_deepseek_v3_parity,
    test_gemma3_parity,
    test_gpt_oss_parity,
    test_mixtral_parity,
    test_qwen3_moe_parity,
)
from models.parity import check, generate_from, make_tiny

from fastkernels.bench.grade.oracle import full_precision

pytestmark = pytest.mark.two_gpus


def first_of(parity):
    return next(iter(parity.configs.values()))


FAMILIES = {
    "llama": {"model_type": "llama", "head_dim": 64},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 64},
    "mixtral": first_of(test_mixtral_parity.TestMixtral),
    "qwen3-moe": first_of(test_qwen3_moe_parity.TestQwen3Moe),
    "gemma3": first_of(test_gemma3_parity.TestGemma3),
    "gpt-oss": first_of(test_gpt_oss_parity.TestGptOss),
    "deepseek-v2": first_of(test_deepseek_v2_parity.TestDeepseekV2),
    "deepseek-v3": first_of(test_deepseek_v3_parity.TestDeepseekV3),
}


def generate_in_full_precision(directory, prompts):
    with full_precision():
        return generate_from(directory, prompts, device="cuda", chunk=9, stagger=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_are_transformers(family, tmp_path, gpu_ranks):
    tiny = make_tiny(FAMILIES[family], tmp_path)
    for generated in gpu_ranks.call(generate_in_full_precision, tiny.directory, tiny.prompts):
        check(generated, tiny, tiny.prompts)
