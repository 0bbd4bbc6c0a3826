"""Results to log, made by hand."""

from dataclasses import replace

from results_by_hand import passed, rms_norm, silu_and_mul

from fastkernels.bench.tracking.kernel_files import made
from fastkernels.results import Correctness, EvalReport, EvalRow, KernelBenchResult, Verdict, WorstElement

CODE = 'TEXT = "größe"\r\nclass RMSNorm:\n\tpass  # no newline at the end'
ENVIRONMENT = {"machine": {"cpu": "Xeon"}, "gpu": {"name": "NVIDIA H200"}, "commit": "abc", "dirty": False,
               "versions": {"torch": "2.13.0"}}


def failed(scenario=None, ratio=77.0, **changes):
    worst = WorstElement("output", (3, 31), 1.25, 0.0)
    fields = {"verdict": Verdict.WRONG_VALUES, "message": "1 of 128 elements is outside the tolerance", "timing": None,
              "evidence": "Traceback:\n  boom", "reproduce": "pytest 'silu_and_mul[tiny-tp1-s4]' --fk-seed=7",
              "correctness": Correctness(1.25, ratio, 0.1, 1e-3, 0.01, 0.016, 9, worst, "large@t4#2"), **changes}
    return passed(scenario, **fields)


KERNELS = (made("rms_norm", 1, CODE),)


def bench(*results, kernels=KERNELS, **changes):
    results = results or (passed(rms_norm(4)), passed(rms_norm(8), candidate_sha256="ff" * 32), failed(silu_and_mul()))
    fields = {"environment": ENVIRONMENT, "settings": {"seed": 7}, "started": "2026-11-25T01:02:03+00:00",
              "wall_s": 12.5, **changes}
    return KernelBenchResult(results=tuple(results), kernels=tuple(kernels), **fields)


def faster(result, speedup):
    return replace(result, timing=replace(result.timing, speedup=speedup))


REPORT = EvalReport(
    avg_throughput_speedup=1.2, avg_latency_speedup=1.1, alignment_rate=0.99, macro_speedup=1.15, macro_correctness=1.0,
    macro_coverage=0.5, macro_score=0.57, environment=ENVIRONMENT, settings={"seed": 3, "models": ["a"]}, wall_s=99.0,
    rows=(EvalRow("llama31-8b", 1, "balanced", 1.2, 0.99), EvalRow("llama31-8b", 2, "single-request", 1.1, 1.0)))
E2E = {"tokens_per_second": 5000.5, "avg_latency": 1.5, "mean_ttft_ms": 20, "mean_tpot_ms": 5.0, "mean_itl_ms": 4.5,
       "percentiles": {50: 1.4, 99: 2.0}, "latencies": [1.0, 2.0], "model": "tiny/Tiny-A", "tp": 1,
       "environment": ENVIRONMENT}
