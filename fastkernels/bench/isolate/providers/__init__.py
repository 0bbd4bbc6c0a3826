"""What computes the timed baseline: the project's own operators, or vLLM's."""

from fastkernels.bench.isolate.providers.catalog import BASELINES, VLLM, vllm_missing, why_not

__all__ = ["BASELINES", "VLLM", "vllm_missing", "why_not"]
