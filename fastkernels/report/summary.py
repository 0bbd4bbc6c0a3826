"""The first part of the page: what ran, where, and what came of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastkernels.report.formats import plural, seconds
from fastkernels.report.heat_map import speedup_of
from fastkernels.results import KernelBenchResult, LeftOut, ScenarioResult


@dataclass(frozen=True)
class OperatorRow:
    """One operator of the overview."""

    op: str
    """Operator."""
    level: int
    """1 to 4."""
    scenarios: int
    """Graded scenarios."""
    shapes: int
    """Distinct shapes among them."""
    passed: int
    """Scenarios that passed."""
    failed: int
    """Scenarios that did not."""
    noisy: int
    """Scenarios without times, since the machine was too busy."""
    speedup: float | None
    """Geometric mean over the timed scenarios."""
    slowest: ScenarioResult | None
    """The timed scenario with the least speedup."""
    fastest: ScenarioResult | None
    """The timed scenario with the greatest speedup."""
    max_error_ratio: float | None
    """Largest error ratio; NaN where one is NaN, None where there are no numbers."""
    providers: str
    """What computed the baseline."""
    self_test: bool
    """True where every scenario is a self-test."""


def operator_rows(results: Iterable[ScenarioResult]) -> list[OperatorRow]:
    """One row for each operator and level, in the order of the results."""
    groups: dict[tuple[str, int], list[ScenarioResult]] = {}
    for result in results:
        groups.setdefault((result.op, result.level), []).append(result)
    return [_operator_row(group) for group in groups.values()]


def verdict_counts(results: Iterable[ScenarioResult]) -> list[tuple[str, int]]:
    """Verdicts with their counts: passed first, then the most frequent."""
    counts = Counter(str(result.verdict) for result in results)
    return sorted(counts.items(), key=lambda item: (item[0] != "passed", -item[1], item[0]))


def device_of(result: KernelBenchResult) -> str:
    """Name of the GPU, or of the CPU with the threads used; `cpu` or `cuda` where the results do not say more."""
    gpu = part(result.environment, "gpu").get("name")
    kinds = list(dict.fromkeys(item.device for item in result.results))
    if gpu and kinds != ["cpu"]:
        return str(gpu)
    machine = part(result.environment, "machine")
    threads = f", {machine['threads']} threads" if machine.get("threads") else ""
    return f"{machine['cpu']}{threads}" if machine.get("cpu") and kinds == ["cpu"] else ", ".join(kinds)


def facts(result: KernelBenchResult) -> list[tuple[str, list[str]]]:
    """Names and values, in parts, of the conditions of the run; what the results do not say is left out."""
    environment, settings = result.environment, result.settings
    gpu, machine = part(environment, "gpu"), part(environment, "machine")
    versions = part(environment, "versions")
    models = dict.fromkeys(item.model for item in result.results)
    methods = sorted({item.timing.method for item in result.results if item.timing})
    listed: list[tuple[str, list[str]]] = [
        ("device", [device_of(result)]),
        ("driver and clocks", _filled(gpu, "driver {driver}", "SM {clock_sm_mhz:g} MHz", "memory {clock_memory_mhz:g} "
                                      "MHz", "{temperature_c:g} °C", "{power_w:g} W")),
        ("host", _filled(machine, "{cpu}", "{cores} cores", "load {load}", "{system}")),
        ("versions", [f"{name} {value}" for name, value in versions.items() if value is not None]),
        ("commit", [_commit(environment)]),
        ("started", [f"{result.started[:19].replace('T', ' ')} UTC" if result.started else ""]),
        ("wall time", [seconds(result.wall_s) if result.wall_s else ""]),
        ("models", list(models)),
        ("tensor parallel degrees", list(map(str, sorted({item.tp for item in result.results})))),
        ("candidates", [str(settings.get("candidates_dir") or "")]),
        ("calls ran through", sorted({f"{item.op}: {name}" for item in result.results for name in item.ran_through})),
        ("seed", [str(settings.get("seed", ""))]),
        ("times by", methods or ["none: nothing was timed"]),
    ]
    filled = [(name, [value for value in values if value]) for name, values in listed]
    return [(name, values) for name, values in filled if values]


def setting_rows(result: KernelBenchResult) -> list[tuple[str, str]]:
    """The options of the run, as the results file has them."""
    return [(str(name), str(value)) for name, value in sorted(result.settings.items())]


def left_out_groups(left_out: Sequence[LeftOut]) -> list[tuple[str, list[str]]]:
    """Reasons with the addresses that each left out, the most frequent first."""
    groups: dict[str, list[str]] = {}
    for item in left_out:
        groups.setdefault(item.reason, []).append(item.id)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def headline(result: KernelBenchResult) -> str:
    """One sentence: how many scenarios, and what came of them."""
    counts = ", ".join(f"{count:,} {name}" for name, count in verdict_counts(result.results))
    return f"{plural(len(result.results), 'scenario')}: {counts}"


def _operator_row(group: Sequence[ScenarioResult]) -> OperatorRow:
    timed = sorted((item for item in group if item.timing), key=lambda item: item.timing.speedup if item.timing else 0)
    errors = [item.correctness.max_error_ratio for item in group if item.correctness]
    undefined = [value for value in errors if value != value]
    passed = sum(item.verdict.ok for item in group)
    return OperatorRow(
        group[0].op, group[0].level, len(group), len({item.shape_key for item in group}), passed, len(group) - passed,
        sum(item.noise is not None for item in group), speedup_of(group), timed[0] if timed else None,
        timed[-1] if timed else None,
        (undefined or [max(errors)])[0] if errors else None,
        ", ".join(dict.fromkeys(item.baseline_provider for item in group)), all(item.self_test for item in group))


def part(data: dict[str, Any], name: str) -> dict[str, Any]:
    """A dictionary within free-form data; empty where it is absent or something else."""
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _filled(values: dict[str, Any], *forms: str) -> list[str]:
    """The forms whose value is there and is what the form is for."""
    texts = []
    for form in forms:
        name = form.partition("{")[2].partition("}")[0].removesuffix(":g")
        value = values.get(name)
        if isinstance(value, int | float) or (isinstance(value, str) and ":g" not in form):
            texts.append(form.format_map({name: value}))
    return texts


def _commit(environment: dict[str, Any]) -> str:
    commit = environment.get("commit")
    return f"{commit}{' with uncommitted changes' if environment.get('dirty') else ''}" if commit else ""
