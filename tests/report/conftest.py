"""Runs built by hand for the report's tests."""

import math
from dataclasses import replace
from itertools import product

import pytest
from results_by_hand import passed

from fastkernels.results import KernelBenchResult, KernelSource, LeftOut, Subsumed, Verdict

MODELS = ("llama31-8b", "llama31-70b", "mixtral-8x7b", "qwen3-8b", "qwen3-32b", "qwen3-30b-a3b", "gemma3-4b",
          "gemma3-27b", "mistral-7b-v03", "qwen25-72b")
OPERATORS = ("rms_norm", "silu_and_mul", "gelu_and_mul", "rotary_emb", "linear", "embedding", "topk_softmax",
             "store_kvcache", "flash_attn_prefill", "flash_attn_decode")
BANDWIDTH, PEAK = 4e12, 7e14


def make_graded(op="rms_norm", model="llama31-8b", tp=1, tokens=8, variant="", speedup=1.5, **changes):
    """A passing scenario with 100 samples of each side, unless `changes` say otherwise."""
    address = f"{op}[{model}-tp{tp}-s{tokens}{f'-{variant}' if variant else ''}]"
    width = 4096 // tp
    flops, least = (2 * tokens * width * 4096, 2 * width * 4096) if op in ("linear", "flash_attn_prefill") else (0, 0)
    least += 4 * tokens * width
    bound = max(least / BANDWIDTH, flops / PEAK)
    baseline = 2e-6 + 1.5 * bound
    samples = [baseline * (1 + 0.05 * math.sin(7 * i + tokens)) for i in range(100)]
    timing = replace(passed().timing, method="cupti", baseline_s=baseline, candidate_s=baseline / speedup,
                     speedup=speedup, speedup_low=0.97 * speedup, speedup_high=1.02 * speedup, bytes=least, flops=flops,
                     roofline_s=bound, baseline_roofline=bound / baseline,
                     candidate_roofline=bound / baseline * speedup, baseline_samples_s=tuple(samples),
                     candidate_samples_s=tuple(value / speedup for value in samples))
    result = passed(id=address, op=op, model=model, model_id=f"org/{model}", tp=tp, tokens=tokens, variant=variant,
                    shape_key=f"{op}-{width}-{tokens}-{variant}", device="cuda", baseline_provider="triton",
                    timing=timing, seed=7, candidate_path=f"kernels/L1/{op}.py",
                    reproduce=f"python -m pytest '{address}' --fk-seed=7")
    if not changes.get("verdict", Verdict.PASSED).correct:
        changes = {"timing": None, **changes}
    ratio = 0.05 * (1 + len(op) % 5) * (1 + math.log2(tokens) / 13)
    return replace(with_ratio(result, ratio), **changes)


def with_ratio(result, ratio):
    """The scenario with another error ratio."""
    return replace(result, correctness=replace(result.correctness, max_error_ratio=ratio))


def make_run(*results, **changes):
    """A run with these results on a GPU of an invented name."""
    return replace(KernelBenchResult(
        results=tuple(results), started="2026-11-21T11:54:41+00:00", wall_s=35.8,
        environment={"gpu": {"name": "Example GPU", "driver": "580.1", "clock_sm_mhz": 1980.0}, "commit": "68fa15c",
                     "dirty": False, "machine": {"cpu": "Xeon", "cores": 16},
                     "versions": {"python": "3.12.3", "torch": "2.11.0", "vllm": None}},
        settings={"seed": 7, "candidates_dir": "kernels", "num_runs": 100}), **changes)


def grid(operators, models, tps, tokens, factor=1.0):
    """A scenario for each combination, with speedups from 0.5 to 2.5 and some failures of several kinds."""
    results = []
    for i, (op, model, tp, count) in enumerate(product(operators, models, tps, tokens)):
        result = make_graded(op, model, tp, count, speedup=factor * 1.4 ** math.sin(i + 3 * len(op)) * (1 + i % 7 / 10))
        if op == "rotary_emb" and count >= 512:
            result = with_ratio(make_graded(
                op, model, tp, count, verdict=Verdict.WRONG_VALUES,
                message=f"output[0] (element {i}, 3): expected 1.5, got 2.25 (error ratio {2 + i})"), 2.0 + i)
        if op == "topk_softmax" and tp == 4:
            result = make_graded(op, model, tp, count, verdict=Verdict.CRASHED, correctness=None,
                                 message="ended by SIGSEGV in forward",
                                 evidence="Fatal Python error: Segmentation fault")
        if op == "gelu_and_mul" and count == 1:
            result = with_ratio(make_graded(op, model, tp, count, verdict=Verdict.WRONG_NONFINITE,
                                            message="output: NaN where the oracle has 0.25"), math.nan)
        results.append(result)
    return results


@pytest.fixture(scope="session")
def graded():
    """The function that builds a scenario: `graded(op, model, tp, tokens, variant, speedup, **changes)`."""
    return make_graded


@pytest.fixture(scope="session")
def run_of():
    """The function that builds a run: `run_of(*results, **changes)`."""
    return make_run


@pytest.fixture(scope="session")
def large_run():
    """2,000 scenarios with 100 samples of each side."""
    return make_run(*grid(OPERATORS, MODELS, (1, 2, 4, 8), (1, 8, 128, 512, 8192)))


@pytest.fixture(scope="session")
def small_run():
    """A run with a bit of everything, small enough to look at."""
    results = grid(("rms_norm", "rotary_emb", "gelu_and_mul", "linear", "topk_softmax"), MODELS[:2], (1, 4),
                   (1, 8, 128, 512, 2048, 8192))
    results += [make_graded(variant="residual", model=model, tp=tp, tokens=tokens, speedup=0.8 + tokens / 4000)
                for model in MODELS[:2] for tp in (1, 4) for tokens in (1, 8, 128, 512, 2048)]
    slow = make_graded("linear", MODELS[0], 8, 8, speedup=0.4)
    results.append(replace(slow, verdict=Verdict.TOO_SLOW, message="0.40x is under 0.90x"))
    return make_run(*results, left_out=(LeftOut("rms_norm[llama31-8b-tp1-s8192-residual]", "no room"),),
                  subsumed=(Subsumed("L1.silu_and_mul", ""), Subsumed("L1.embedding", "L2.block")),
                  kernels=(KernelSource("rms_norm", 1, "kernels/L1/rms_norm.py", "4d3b" * 16, "import torch\n"),))
