"""A small store of tracked runs of every kind, filled through the tracker."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow_server import copy_tables
from results_by_hand import passed, rms_norm, silu_and_mul
from tracked_results import E2E, ENVIRONMENT, REPORT, bench, failed, faster

from fastkernels.bench.tracking import Tracker
from fastkernels.bench.tracking.kernel_files import made

VERSIONS = {f"v{number}": f"class RMSNorm:\n    VERSION = {number}\n" for number in (1, 2, 3)}
"""Sources of the three kernels by the name of their run."""


def rms_norm_bench(name: str, speedup: float, *more, tokens=(4, 8), **changes):
    """A run of rms_norm over `tokens`, each as fast."""
    source = made("rms_norm", 1, VERSIONS.get(name, f"# {name}\n"))
    results = [faster(passed(rms_norm(t), candidate_sha256=source.sha256, **changes), speedup) for t in tokens]
    gpu = ENVIRONMENT["gpu"] if changes.get("device") == "cuda" else None
    return bench(*results, *more, kernels=[source], environment={**ENVIRONMENT, "gpu": gpu})


def fill(directory: Path, tables: Path, names: Sequence[str] = ()) -> dict[str, str]:
    """Track runs in the store of `directory`, a copy of the empty `tables`; return their ids by name, oldest first.

    Without `names` all of RUNS, as if one had started every minute; else these, as they are made.
    """
    ids = {}
    copy_tables(tables, directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for variable in ("FASTKERNELS_TRACKING", "MLFLOW_TRACKING_URI"):
            patch.delenv(variable, raising=False)
        tracker = Tracker(notify=pytest.fail)
        for minute, (name, log) in enumerate((name, RUNS[name]) for name in names or RUNS):
            started = "" if names else f"2026-11-25T01:{minute:02}:00+00:00"
            with tracker.start_run(name, started=started, **PLACES.get(name, {})) as run:
                log(tracker)
            ids[name] = run.run_id
    return ids


def _agent(tracker: Tracker) -> None:
    tracker.log_kernel("silu_and_mul", level=1, code="class SiluAndMul: ...\n")
    tracker.log_metrics({"gen_rms_norm_success": 1, "gen_silu_and_mul_success": 0, "utest_rms_norm_success": 1,
                         "utest_silu_and_mul_success": 0, "e2e_speedup": 1.07, "e2e_token_match_rate": 0.998})


PLACES = {"agent": {"tags": {"tier": "agent"}, "params": {"model": "llama31-8b", "level": 1}}}
RUNS = {
    "v1": lambda t: t.log_kernel_bench(rms_norm_bench("v1", 1.5)),
    "v2": lambda t: t.log_kernel_bench(rms_norm_bench("v2", 2.5)),
    "v3": lambda t: t.log_kernel_bench(rms_norm_bench("v3", 1.25, failed(silu_and_mul()))),
    "wrong": lambda t: t.log_kernel_bench(rms_norm_bench("wrong", 9.0, failed(rms_norm(16)))),
    "self-test": lambda t: t.log_kernel_bench(rms_norm_bench("self-test", 30.0, self_test=True)),
    "gpu": lambda t: t.log_kernel_bench(rms_norm_bench("gpu", 1.1, device="cuda")),
    "untimed": lambda t: t.log_kernel_bench(bench(passed(rms_norm(4), timing=None), environment=ENVIRONMENT)),
    "agent": _agent,
    "eval": lambda t: t.log_eval(REPORT),
    "e2e": lambda t: t.log_e2e(E2E, "throughput"),
}
