"""What differs between the conditions of two runs: what forbids to compare times, and what a reader should know."""

from typing import Any

from fastkernels.report.summary import part
from fastkernels.results import KernelBenchResult, ScenarioResult

MACHINE = {"cuda": (("GPU", "gpu", "name"),), "cpu": (("CPU", "machine", "cpu"), ("CPU threads", "machine", "threads"))}
"""By device: what has to be equal for times to be comparable."""
_KNOWN = {
    "gpu": (("driver", "driver"), ("clock_sm_max_mhz", "highest SM clock (MHz)"), ("power_limit_w", "power limit (W)"),
            ("memory_mib", "GPU memory (MiB)")),
    "machine": (("system", "system"), ("cores", "cores"), ("usable_cores", "usable cores"), ("governor", "governor")),
    "versions": tuple((name, name) for name in ("torch", "cuda", "triton", "vllm", "python")),
}
"""What a reader should know, with the name that the page and the command give it."""
_SETTINGS = ("baseline", "num_warmup", "num_runs", "max_time_s", "min_speedup", "memory_limit_bytes")
"""Options of a run that may move times or verdicts."""


def machine_differences(base: KernelBenchResult, new: KernelBenchResult) -> dict[str, list[str]]:
    """By device, what makes times incomparable: `GPU NVIDIA H200 -> NVIDIA H100`."""
    return {device: [f"{label} {_shown(there)} -> {_shown(here)}" for label, group, name in facts
                     if (there := part(base.environment, group).get(name))
                     != (here := part(new.environment, group).get(name))]
            for device, facts in MACHINE.items()}


def notes(base: KernelBenchResult, new: KernelBenchResult) -> list[str]:
    """Other differences, which times may follow: driver, versions, clocks, options."""
    found = [f"{label} {_shown(there)} -> {_shown(here)}" for group, names in _KNOWN.items() for name, label in names
             if (there := part(base.environment, group).get(name)) != (here := part(new.environment, group).get(name))]
    found += [f"option {name} {_shown(base.settings.get(name))} -> {_shown(new.settings.get(name))}"
              for name in _SETTINGS if base.settings.get(name) != new.settings.get(name)]
    return found


def pair_differences(base: ScenarioResult, new: ScenarioResult) -> list[str]:
    """What makes the times of one scenario incomparable, wherever it ran."""
    found = [f"{label} {_shown(there)} -> {_shown(here)}" for label, there, here in (
        ("device", base.device, new.device), ("baseline", base.baseline_provider, new.baseline_provider),
        ("timed by", base.timing and base.timing.method, new.timing and new.timing.method)) if there != here]
    if base.self_test != new.self_test:
        found.append("self-test -> candidate" if base.self_test else "candidate -> self-test")
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
