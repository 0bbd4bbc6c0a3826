"""pytest-benchmark: puts the samples of graded scenarios into its table, files and comparisons.

The only file that touches names pytest-benchmark does not promise: `Metadata`, and of its session `benchmarks`,
`groups` and `options`. Tested with 5.1.0, 5.2.3 and 5.3.1.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from fastkernels.results import ScenarioResult

SESSION_PLUGIN = "pytest-benchmark"
"""Name under which pytest-benchmark registers its session."""
COLUMNS = ("min", "median", "max", "stddev", "rounds")
"""Columns of its table that fit a terminal; used unless --benchmark-columns is given."""
TABLE_ROWS = 60
"""Rows of pytest-benchmark's table that are printed without -v; its files always hold every row."""
SKIP_OTHER = "not a benchmark (--benchmark-only)"


class BenchmarkBridge:
    """One run's link to pytest-benchmark; does nothing where that is missing or turned off by the user."""

    def __init__(self, config: pytest.Config, distributed: bool, only: bool) -> None:
        """Must run before pytest-benchmark's own configuration, which refuses --benchmark-only under xdist."""
        option = config.option
        self.config = config
        self.loaded = hasattr(option, "benchmark_disable")
        self.only = self.loaded and only
        self.wanted = self.loaded and not option.benchmark_skip and (
            not option.benchmark_disable or bool(option.benchmark_enable))
        self.names: set[str] = set()
        self.shared: set[str] = set()
        if self.loaded:
            option.benchmark_only = False
            if distributed:  # as pytest-benchmark would, but without its warning that nothing is recorded
                option.benchmark_disable = True

    def skip_others(self, items: list[pytest.Item]) -> None:
        """Keep the promise of --benchmark-only, which was taken from pytest-benchmark, for tests that time nothing."""
        if self.only:
            for item in items:
                if not {"benchmark", "fk_grade"} & set(getattr(item, "fixturenames", ("benchmark",))):
                    item.add_marker(pytest.mark.skip(reason=SKIP_OTHER))

    def add(self, node_id: str, result: ScenarioResult) -> None:
        """Append one scenario's samples to pytest-benchmark's session."""
        session = self.config.pluginmanager.get_plugin(SESSION_PLUGIN) if self.wanted else None
        timing = result.timing
        if session is None or timing is None or not timing.candidate_samples_s:
            return
        from pytest_benchmark.stats import Metadata

        name = result.id if node_id not in self.names else f"{result.id}#{len(self.names)}"
        fixture = SimpleNamespace(
            name=name, fullname=node_id if node_id not in self.names else f"{node_id}#{len(self.names)}",
            group=f"{result.op} {result.model}", param=result.id, params=_params(result), extra_info=_extra(result),
            cprofile_stats=None, has_error=False)
        record: Any = Metadata(  # type: ignore[no-untyped-call]
            fixture, 1, {**session.options, "timer": timing.method, "warmup": True})
        for seconds in timing.candidate_samples_s:
            record.update(seconds)
        self.names.add(node_id)
        if result.shared_with:
            self.shared.add(fixture.fullname)
        session.benchmarks.append(record)

    def shorten_table(self) -> str:
        """Drop rows of equal shapes from the printed table, or all of a long one; say so, or return nothing."""
        session: Any = self.config.pluginmanager.get_plugin(SESSION_PLUGIN) if self.names else None
        groups = session and session.groups
        if session and not any(arg.startswith("--benchmark-columns") for arg in self.config.invocation_params.args):
            session.columns = list(COLUMNS)
        if not groups or self.config.get_verbosity() > 0 or self.config.option.benchmark_verbose:
            return ""
        kept = [(name, [row for row in rows if row["fullname"] not in self.shared]) for name, rows in groups]
        left = sum(len(rows) for _, rows in kept)
        session.groups = [(name, rows) for name, rows in kept if rows] if left <= TABLE_ROWS else []
        dropped = sum(len(rows) for _, rows in groups) - (left if left <= TABLE_ROWS else 0)
        more = "(-v shows all, its files hold all)"
        return f"pytest-benchmark's table: {dropped} rows not shown {more}" if dropped else ""


def _params(result: ScenarioResult) -> dict[str, object]:
    return {"op": result.op, "model": result.model, "tp": result.tp, "tokens": result.tokens, "variant": result.variant}


def _extra(result: ScenarioResult) -> dict[str, object]:
    timing = result.timing
    assert timing is not None
    return {
        "verdict": str(result.verdict), "self_test": result.self_test, "shared_with": result.shared_with,
        "device": result.device, "method": timing.method, "baseline_s": timing.baseline_s,
        "speedup": timing.speedup, "speedup_low": timing.speedup_low, "speedup_high": timing.speedup_high,
        "candidate_roofline": timing.candidate_roofline, "baseline_samples_s": list(timing.baseline_samples_s),
    }
