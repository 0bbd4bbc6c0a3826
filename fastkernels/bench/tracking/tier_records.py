"""Runs of the eval and e2e tiers as parameters, metrics and files of a tracked run."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from fastkernels.bench.tracking.record import Record, as_params, distinct, legal_key, of_environment
from fastkernels.results import EvalReport, json_safe

EVAL_METRICS = ("avg_throughput_speedup", "avg_latency_speedup", "alignment_rate", "macro_speedup",
                "macro_correctness", "macro_coverage", "macro_score", "wall_s")

SETTINGS = ("tp", "level", "seed", "tensor_parallel_size")
"""Numbers among e2e results that are settings and no measurements."""


def eval_record(report: EvalReport) -> Record:
    """The scores, and per row `{model}-tp{tp}/{workload}/speedup` and `/alignment_rate`."""
    metrics = {name: float(getattr(report, name)) for name in EVAL_METRICS}
    for row in report.rows:
        where = f"{row.model}-tp{row.tp}/{row.workload}"
        metrics[legal_key(f"{where}/speedup")] = row.speedup
        metrics[legal_key(f"{where}/alignment_rate")] = row.alignment_rate
    settings = {name: value for name, value in report.settings.items() if isinstance(value, str | int | float)}
    params = as_params({**settings, "model": distinct(row.model for row in report.rows),
                        "tp": distinct(row.tp for row in report.rows), **of_environment(report.environment)})
    return Record(params=params, metrics=metrics, files={"results.json": _json(dataclasses.asdict(report))})


def e2e_record(results: Mapping[str, Any], bench_type: str) -> Record:
    """Every number of the results; one within a mapping, such as percentiles, as `outer/inner`.

    Words become parameters, as does the tensor parallel degree; lists stand in the file `results.json` only.
    """
    metrics: dict[str, float] = {}
    params: dict[str, object] = {"bench_type": bench_type}
    environment = results.get("environment")
    for name, value in _flat({key: value for key, value in results.items() if key != "environment"}):
        if name not in SETTINGS and isinstance(value, int | float) and not isinstance(value, bool):
            metrics[legal_key(name)] = float(value)
        elif isinstance(value, str | int | float):
            params[name] = value
    params |= of_environment(environment) if isinstance(environment, Mapping) else {}
    return Record(params=as_params(params), metrics=metrics, files={"results.json": _json(results)})


def _flat(values: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _json(data: Any) -> bytes:
    return json.dumps(json_safe(data), indent=1, allow_nan=False, default=str).encode() + b"\n"
