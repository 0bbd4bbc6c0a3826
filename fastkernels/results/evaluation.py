"""The eval tier's report: a fixed sweep over models and tensor parallel degrees, with a score."""

from dataclasses import dataclass, field
from typing import Any

from fastkernels.results.kernel import SCHEMA_VERSION


@dataclass(frozen=True)
class EvalRow:
    """One model at one tensor parallel degree, candidates against baseline."""

    model: str
    """Short model name, such as `llama31-8b`."""
    tp: int
    """Tensor parallel degree."""
    workload: str
    """Name of the fixed workload, such as `balanced` or `single-request`."""
    speedup: float
    """Baseline's time over the candidates' time for the same work; over 1 is faster."""
    alignment_rate: float
    """Share of output tokens that equal the baseline's, 0 to 1."""
    baseline: dict[str, float] = field(default_factory=dict)
    """The baseline's figures by name, units in the names."""
    candidate: dict[str, float] = field(default_factory=dict)
    """The candidates' figures by name, units in the names."""


@dataclass(frozen=True)
class EvalReport:
    """One run of the eval tier: the content of its `--output-json`."""

    avg_throughput_speedup: float
    """Geometric mean of the speedups of the throughput workloads."""
    avg_latency_speedup: float
    """Geometric mean of the speedups of the latency workloads."""
    alignment_rate: float
    """Mean share of output tokens that equal the baseline's, 0 to 1."""
    macro_speedup: float
    """Mean of the models' speedups."""
    macro_correctness: float
    """Share of the models whose outputs are right, 0 to 1."""
    macro_coverage: float
    """Share of the models' operators that a candidate replaces, 0 to 1."""
    macro_score: float
    """The score of the sweep."""
    rows: tuple[EvalRow, ...] = ()
    """Every model, degree and workload."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Machine, device, driver, clocks, versions, commit."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Options of the run."""
    started: str = ""
    """UTC time, ISO 8601."""
    wall_s: float = 0.0
    """Seconds that the run took."""
    schema_version: int = SCHEMA_VERSION
    """Version of this form."""
