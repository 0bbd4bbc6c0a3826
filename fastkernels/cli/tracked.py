"""What tracked runs say about operators: the record of each, and the best one."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastkernels.bench.isolate.sanitizer import TOOLS
from fastkernels.bench.tracking import TrackedRun
from fastkernels.results import Gate

SOURCE_HASH, GRADED_HASH = "kernel_sha256.", "candidate_sha256."
"""Prefixes of the tags with an operator's hashes: of its source among the run's artifacts, and of that file together
with the helpers that it imports."""
KNOWN_GATES = (*map(str, Gate), *TOOLS)
"""What `{op}_gate_{name}_passed` counts; it is named as if it were an operator's count."""
PROVIDER_TAG = "baseline_provider."
"""Prefix of the tag that says what computed an operator's baseline."""


@dataclass(frozen=True)
class OpRecord:
    """What one run found about one operator."""

    run: TrackedRun
    """The run."""
    op: str
    """Operator."""
    speedup: float | None
    """Average speedup over the operator's scenarios; None where nothing was timed."""
    error_ratio: float | None
    """Largest error over what is allowed; None where nothing was compared."""
    passed: int | None
    """Scenarios that passed; None where the run graded none, as one that only wrote the kernel."""
    failed: int | None
    """Scenarios that failed; None likewise."""
    baseline: str
    """What computed the baseline, such as `triton`; empty where the run does not say."""
    source_sha256: str
    """Hash of the run's artifact `kernels/{op}.py`; empty where there is none."""
    graded_sha256: str
    """Hash over the candidate as graded, helpers too; empty where the baseline was graded."""
    noisy: int = 0
    """Scenarios without times, since the machine was too busy: the average is over the others alone."""

    @property
    def left_out(self) -> str:
        """Why this can not be the best record; empty where it can: a candidate, every scenario passed, a speedup."""
        if is_self_test(self.run):
            return "of self-tests"
        if not self.passed and not self.failed:
            return "that graded nothing"
        if self.failed != 0:
            return "with failures"
        if self.noisy:
            return "with noisy times"
        timed = self.speedup is not None and math.isfinite(self.speedup) and self.speedup > 0
        return "" if timed else "without timings"


@dataclass(frozen=True)
class Best:
    """The best record of one operator on one device against one baseline, and what it was chosen from."""

    record: OpRecord
    """The record."""
    device: str
    """Where it was measured; speedups on different devices are not compared."""
    baseline: str
    """What it was measured against, likewise."""
    chosen_from: int
    """Runs that could have been it."""
    most_scenarios: int
    """Most scenarios of the operator that one of these runs graded; a record over fewer may be a picked one."""


def ops_of(run: TrackedRun) -> tuple[str, ...]:
    """Operators that a run graded or wrote a kernel for, sorted."""
    counted = {name.removesuffix("_passed") for name in run.metrics if name.endswith("_passed")}
    graded = counted - {f"{op}_gate_{gate}" for op in counted for gate in KNOWN_GATES}
    written = {name.removeprefix("gen_").removesuffix("_success") for name in run.metrics
               if name.startswith("gen_") and name.endswith("_success")}
    kept = {tag.removeprefix(SOURCE_HASH) for tag in run.tags if tag.startswith(SOURCE_HASH)}
    return tuple(sorted(graded | written or kept))  # beside graded operators, sources of helpers are kept


def records(runs: Iterable[TrackedRun], op: str | None = None) -> list[OpRecord]:
    """Records of one operator, or of all, in the order of the runs."""
    return [_record(run, name) for run in runs for name in ops_of(run) if op in (None, name)]


def best_records(found: Sequence[OpRecord]) -> list[Best]:
    """Best record of each operator, device and baseline, sorted by these; of equal ones the newest run's."""
    groups: dict[tuple[str, str, str], list[OpRecord]] = {}
    for record in found:
        if not record.left_out:
            groups.setdefault((record.op, device_of(record.run), record.baseline), []).append(record)
    return [Best(max(group, key=_speedup), device, baseline, len(group), max(r.passed or 0 for r in group))
            for (_, device, baseline), group in sorted(groups.items())]


def is_self_test(run: TrackedRun) -> bool:
    """True where the baseline itself was graded."""
    return run.tags.get("self_test") == "true"


def device_of(run: TrackedRun) -> str:
    """Name of the GPU or CPU, else `cuda` or `cpu`, else empty."""
    kind = run.params.get("device", "")
    name = run.params.get("gpu") if kind != "cpu" else run.params.get("cpu")
    return name or kind


def _record(run: TrackedRun, op: str) -> OpRecord:
    return OpRecord(
        run, op, _metric(run, f"{op}_avg_speedup"), _metric(run, f"{op}_max_error_ratio"),
        _count(run, f"{op}_passed"), _count(run, f"{op}_failed"), run.tags.get(f"{PROVIDER_TAG}{op}", ""),
        run.tags.get(f"{SOURCE_HASH}{op}", ""), run.tags.get(f"{GRADED_HASH}{op}", ""),
        _count(run, f"{op}_noisy") or 0)


def _metric(run: TrackedRun, name: str) -> float | None:
    """A metric; one that is not finite stands in the tag `nonfinite`, as `nan`, `inf` or `-inf`."""
    if name in run.metrics or "nonfinite" not in run.tags:
        return run.metrics.get(name)
    try:
        found = json.loads(run.tags["nonfinite"]).get(name)
    except ValueError:  # a tag is cut where it is long
        return None
    return None if found is None else float(found)


def _count(run: TrackedRun, name: str) -> int | None:
    value = run.metrics.get(name)
    return None if value is None or not math.isfinite(value) else int(value)


def _speedup(record: OpRecord) -> float:
    return record.speedup or 0.0
