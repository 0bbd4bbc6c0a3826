"""A run of the kernel tier as parameters, metrics, tags and files of a tracked run."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256

from fastkernels.bench.tracking.record import (
    Record,
    as_params,
    as_tags,
    distinct,
    listed,
    of_environment,
    scenario_key,
)
from fastkernels.results import GateOutcome, KernelBenchResult, ScenarioResult, to_json

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
NOTED_FAILURES = 5
"""Failing scenarios that the note words; `errors/` has the others."""
SHOWN_ERRORS = 50
"""Failing scenarios of an operator that `errors/{op}.txt` words in full; the others get a line each."""


def values(result: KernelBenchResult) -> Record:
    """What can be filtered and plotted."""
    from fastkernels.report.heat_map import speedup_of
    from fastkernels.report.summary import operator_rows

    found: dict[str, float | None] = {"avg_speedup": speedup_of(result.results)}
    for row in operator_rows(result.results):
        found |= {f"{row.op}_avg_speedup": row.speedup, f"{row.op}_passed": row.passed, f"{row.op}_failed": row.failed,
                  f"{row.op}_max_error_ratio": row.max_error_ratio,
                  f"{row.op}_noisy": row.noisy}
    for item in result.results:
        found |= _of_scenario(item)
    found |= _gate_counts(result.results)
    found |= {"passed": sum(item.verdict.ok for item in result.results),
              "failed": sum(not item.verdict.ok for item in result.results),
              "noisy": sum(item.noise is not None for item in result.results),
              "left_out": len(result.left_out), "wall_s": result.wall_s}
    return Record(params=_params(result), tags=_tags(result),
                  metrics={name: float(value) for name, value in found.items() if value is not None})


def note(result: KernelBenchResult) -> str:
    """The run in Markdown, as MLflow's page of the run shows it: verdicts, then operators with models and speedups."""
    from fastkernels.report.formats import digits, ratio
    from fastkernels.report.summary import device_of, headline, operator_rows

    lines = [f"**{headline(result)}** on {device_of(result)}", "",
             "| operator | models | TP | verdicts | speedup | slowest | error ratio |", "|---|---|---|---|---|---|---|"]
    for row in operator_rows(result.results):
        own = [item for item in result.results if (item.op, item.level) == (row.op, row.level)]
        counts = Counter(str(item.verdict) for item in own)
        timing = row.slowest.timing if row.slowest else None
        slowest = f"{ratio(timing.speedup)}x, {row.slowest.tokens} tokens" if row.slowest and timing else "-"
        lines.append(
            f"| {row.op} | {', '.join(distinct(item.model for item in own))} | {listed(distinct(i.tp for i in own))} | "
            f"{', '.join(f'{count} {name}' for name, count in counts.most_common())} | "
            f"{'-' if row.speedup is None else f'{ratio(row.speedup)}x'} | {slowest} | "
            f"{'-' if row.max_error_ratio is None else digits(row.max_error_ratio)} |")
    failed = [item for item in result.results if not item.verdict.ok][:NOTED_FAILURES]
    lines += ["", *(f"- `{item.id}` {item.verdict}: {item.headline}" for item in failed)] if failed else []
    return "\n".join(lines)


def dataset(result: KernelBenchResult) -> tuple[str, str, str]:
    """Models of the run, a hash of its shapes, and the manifest that both come from."""
    shapes = sorted({item.shape_key for item in result.results})
    return (", ".join(distinct(item.model for item in result.results)) or "no model",
            sha256("\n".join(shapes).encode()).hexdigest()[:8], str(result.settings.get("manifest") or "llm.yaml"))


def results_file(result: KernelBenchResult) -> bytes:
    """The content of `--fk-output-json` without indentation, which takes json half the time."""
    return json.dumps(to_json(result), allow_nan=False).encode() + b"\n"


def error_files(results: Iterable[ScenarioResult], suffix: str = "") -> dict[str, bytes]:
    """`errors/{op}.txt` for each operator with a failing scenario."""
    failing: dict[str, list[ScenarioResult]] = {}
    for item in results:
        if not item.verdict.ok:
            failing.setdefault(item.op, []).append(item)
    return {f"errors/{op}{suffix}.txt": _errors(items).encode(errors="replace") for op, items in failing.items()}


def _of_scenario(item: ScenarioResult) -> dict[str, float | None]:
    return {scenario_key(item.id, "speedup"): item.timing.speedup if item.timing else None,
            scenario_key(item.id, "correct"): float(item.verdict.correct),
            scenario_key(item.id, "error_ratio"): item.correctness.max_error_ratio if item.correctness else None}


def _gate_counts(results: Iterable[ScenarioResult]) -> dict[str, float | None]:
    """`{op}_gate_{name}_passed` and `_failed` for each gate that applied to a scenario of the operator."""
    found: dict[str, float | None] = {}
    for item in results:
        for name, gate in item.gates.items():
            if gate.outcome is not GateOutcome.NOT_APPLICABLE:
                for outcome in (GateOutcome.PASSED, GateOutcome.FAILED):
                    key = f"{item.op}_gate_{name}_{outcome}"
                    found[key] = (found.get(key) or 0.0) + (gate.outcome is outcome)
    return found


def _params(result: KernelBenchResult) -> dict[str, str]:
    results, settings = result.results, result.settings
    return as_params({
        "op": distinct(item.op for item in results), "model": distinct(item.model for item in results),
        "level": distinct(item.level for item in results), "tp": distinct(item.tp for item in results),
        "seed": settings.get("seed", distinct(item.seed for item in results)),
        "device": distinct(item.device for item in results),
        "providers": distinct(item.baseline_provider for item in results), **of_environment(result.environment)})


def _tags(result: KernelBenchResult) -> dict[str, str]:
    hashes: dict[str, object] = {}
    providers: dict[str, list[str]] = {}
    for item in result.results:
        if item.candidate_sha256:
            hashes[f"candidate_sha256.{item.op}"] = item.candidate_sha256
        if item.ran_through:
            hashes[f"ran_through.{item.op}"] = ", ".join(item.ran_through)
        providers.setdefault(f"baseline_provider.{item.op}", []).append(item.baseline_provider)
    against = {name: listed(distinct(found)) for name, found in providers.items()}
    all_self = bool(result.results) and all(item.self_test for item in result.results)
    return as_tags({"self_test": all_self, NOTE: note(result), **against, **hashes})


def _errors(items: Sequence[ScenarioResult]) -> str:
    lines = [f"{len(items)} failing scenario{'s' if len(items) > 1 else ''} of {items[0].op}"]
    for item in items[:SHOWN_ERRORS]:
        lines += [f"\n{item.id}: {item.verdict}", f"  {item.message}" if item.message else ""]
        worst = item.correctness.worst if item.correctness else None
        if worst is not None:
            where = f"{worst.tensor}[{', '.join(map(str, worst.index))}]"
            lines.append(f"  worst element: {where}: expected {worst.expected}, got {worst.got}"
                         + (f" (draw {item.correctness.draw})" if item.correctness and item.correctness.draw else ""))
        if item.correctness:
            lines.append(f"  max_error_ratio {item.correctness.max_error_ratio}, "
                         f"max_abs_error {item.correctness.max_abs_error}")
        lines.append(f"  reproduce: {item.reproduce}" if item.reproduce else "")
        lines.append(_indented(item.evidence))
    lines += [f"\n{item.id}: {item.verdict}: {item.message}" for item in items[SHOWN_ERRORS:]]
    return "\n".join(line for line in lines if line) + "\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
