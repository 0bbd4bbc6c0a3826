"""The tables of `fastkernels history`: recent runs, one operator's records, the best records."""

import math
from collections.abc import Sequence

from fastkernels.bench.tracking import TrackedRun
from fastkernels.cli.columns import columns
from fastkernels.cli.tracked import Best, OpRecord, device_of, is_self_test, ops_of
from fastkernels.report.formats import digits, ratio, seconds

RUN_ID, HASH = 8, 12
"""Characters shown of a run's id and of a kernel's hash; --json has them whole."""
NOTHING = "-"

def _ratio(value: float) -> str:
    """A speedup with two digits that count, however small."""
    return ratio(value) if value >= 0.1 else digits(value)


def _many(value: float) -> str:
    """A number that may be large: `5,000`, `12.3`."""
    return f"{value:,.0f}" if 100 <= abs(value) < math.inf else digits(value)


_FIGURES = {
    "kernel": (("avg_speedup", "{}x", _ratio),),
    "agent": (("e2e_speedup", "e2e {}x", _ratio), ("e2e_token_match_rate", "match {}", digits)),
    "eval": (("macro_score", "score {}", digits), ("avg_throughput_speedup", "tput {}x", _ratio),
             ("avg_latency_speedup", "lat {}x", _ratio)),
    "e2e": (("tokens_per_second", "{} tok/s", _many), ("avg_latency", "lat {}", seconds),
            ("mean_ttft_ms", "ttft {} ms", digits), ("mean_tpot_ms", "tpot {} ms", digits)),
}
"""By tier: the metrics that sum a run up, how each is written, and its number's format."""


def recent(runs: Sequence[TrackedRun]) -> list[str]:
    """Lines with one run each."""
    rows = [(_when(run), run.tier or NOTHING, run.name, _what(run), _figures(run), *_passed_failed(run),
             run.run_id[:RUN_ID]) for run in runs]
    return columns(("when (UTC)", "tier", "name", "what", "key figures", "passed", "failed", "run"), rows,
                   right=("passed", "failed"), shrink={"name": 12, "what": 20, "key figures": 12})


def of_op(found: Sequence[OpRecord]) -> list[str]:
    """Lines with one run's record of an operator each."""
    header = ("when (UTC)", "tier", "name", "model", "speedup", "error", "passed", "failed", "kernel", "device", "run")
    rows = [(_when(record.run), record.run.tier or NOTHING, record.run.name, _scope(record.run), *_numbers(record),
             _number(record.passed), _number(record.failed), _hash(record), device_of(record.run) or NOTHING,
             record.run.run_id[:RUN_ID]) for record in found]
    return columns(header, rows, right=("speedup", "error", "passed", "failed"),
                   shrink={"name": 6, "device": 12, "model": 10})


def of_best(found: Sequence[Best]) -> list[str]:
    """Lines with the best record of an operator, device and baseline each."""
    rows = [(best.record.op, *_numbers(best.record), _scenarios(best), _place(best), _scope(best.record.run),
             _hash(best.record), best.record.run.started[:10], best.record.run.run_id[:RUN_ID], str(best.chosen_from))
            for best in found]
    return columns(
        ("operator", "speedup", "error", "passed", "device", "model", "kernel", "date (UTC)", "run", "of runs"), rows,
        right=("speedup", "error", "passed", "of runs"), shrink={"operator": 16, "model": 10, "device": 12})


def picked(found: Sequence[Best]) -> list[str]:
    """Operators whose best record graded fewer scenarios than another run did."""
    return [best.record.op for best in found if (best.record.passed or 0) < best.most_scenarios]


def _when(run: TrackedRun) -> str:
    return run.started[:16].replace("T", " ")


def _what(run: TrackedRun) -> str:
    ops = ops_of(run)
    return " ".join(filter(None, (_first(ops), _scope(run, "")))) or NOTHING


def _scope(run: TrackedRun, absent: str = NOTHING) -> str:
    model, level, tp = (run.params.get(name, "") for name in ("model", "level", "tp"))
    return " ".join(filter(None, (_first(model.split(",")), level and f"L{level}", tp and f"tp{tp}"))) or absent


def _first(words: Sequence[str]) -> str:
    """The first of several, and how many more there are."""
    return "".join(words[:1]) + (f" +{len(words) - 1}" if len(words) > 1 else "")


def _figures(run: TrackedRun) -> str:
    shown = [form.format(write(run.metrics[name])) for name, form, write in _FIGURES.get(run.tier, ())
             if name in run.metrics][:2]
    state = [] if run.status == "FINISHED" else [run.status.lower()]
    tested = ["self-test"] if is_self_test(run) else []
    return ", ".join(state + tested + shown) or NOTHING


def _passed_failed(run: TrackedRun) -> tuple[str, str]:
    if run.tier == "agent":
        tests = [value == 1 for name, value in run.metrics.items()
                 if name.startswith("utest_") and name.endswith("_success")]
        return (str(sum(tests)), str(len(tests) - sum(tests))) if tests else (NOTHING, NOTHING)
    counted = [(run.metrics[f"{op}_passed"], run.metrics[f"{op}_failed"]) for op in ops_of(run)
               if f"{op}_passed" in run.metrics]
    if not counted:
        return NOTHING, NOTHING
    return _number(sum(p for p, _ in counted)), _number(sum(f for _, f in counted))


def _numbers(record: OpRecord) -> tuple[str, str]:
    speedup = NOTHING if record.speedup is None else f"{_ratio(record.speedup)}x"
    return speedup, NOTHING if record.error_ratio is None else digits(record.error_ratio)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}" if math.isfinite(value) else digits(value)


def _scenarios(best: Best) -> str:
    return f"{best.record.passed}" + ("*" if picked([best]) else "")


def _place(best: Best) -> str:
    return (best.device or NOTHING) + (f" vs {best.baseline}" if best.baseline else "")


def _hash(record: OpRecord) -> str:
    if is_self_test(record.run):
        return "self-test"
    return (record.source_sha256 or record.graded_sha256)[:HASH] or NOTHING
