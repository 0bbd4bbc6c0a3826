"""Copies of operators slowed by a share of their rows, and the measure of how much slower they truly are."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastkernels.manifest import Scenario
from fastkernels.registry.operators import baseline_root

BLOCKS = 20
"""Parts that the calls are split into; the spread of their ratios gives the half-width."""

LARGEST_FIT = 4.0
"""A copy's share of rows is made this many times larger or smaller at most: the extra call costs something whatever its
rows, and rows have caches that the whole has not."""

SLOWED = '''

_SHARES = {shares}
"""Rows that are computed twice, as a share, by token count."""


_forward = {name}.forward


def _slowed(self, x, *args, **kwargs):
    rows = round(_SHARES.get(x.shape[0], 0.0) * x.shape[0])
    if rows:
        _forward(self, x[:rows], *args, **kwargs)
    return _forward(self, x, *args, **kwargs)


{name}.forward = _slowed  # the class itself stays, with the signature that its original has
'''
"""What is appended to an operator's source."""


def write_copies(directory: Path, scenarios: list[Scenario], shares: Mapping[str, float]) -> None:
    """Write each scenario's operator as a candidate that computes `shares[scenario.id]` of its rows twice."""
    for scenario in scenarios:
        inputs = [spec.name for spec in scenario.inputs]
        if inputs != ["x"]:
            raise ValueError(f"{scenario.id}: only operators whose one input is x can be slowed by rows, not "
                             f"{', '.join(inputs)}; rms_norm, silu_and_mul and linear are such")
        path = Path(f"L{scenario.level}") / f"{scenario.module}.py"
        table = {other.resolved_shape(other.inputs[0])[0]: shares[other.id]
                 for other in scenarios if other.relative_module == scenario.relative_module}
        source = (baseline_root() / path).read_text() + SLOWED.format(shares=table, name=scenario.class_name)
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(source)


def measure(directory: Path, scenario: Scenario, device_name: str, wanted: float, seconds: float) -> dict[str, Any]:
    """Fit the copy's share of rows to the wanted slowdown, then alternate calls of original and copy, AB BA.

    On CUDA each is a captured graph of one call, timed on the device as the grader does; inputs must outgrow the L2.
    Half of `seconds` goes to the fit, all of them to the measure. Returns share, slowdown (median ratio of the two
    calls of a pair, less 1), half_width (95 %, from the ratios of BLOCKS parts of the pairs), pairs and original_s.
    """
    import torch

    from fastkernels.bench.grade import make_inputs
    from fastkernels.bench.grade.draws import Draw
    from fastkernels.runtime.invoke import prepared

    device = torch.device(device_name)
    inputs = make_inputs(scenario, Draw("truth", scenario.tokens, 1, "normal"), device)
    original, copy = (_module(place, f"{name}_{scenario.op}_{round(1000 * wanted)}", scenario, device)
                      for place, name in ((None, "original"), (directory, "copy")))
    shares, rows = vars(sys.modules[type(copy).__module__])["_SHARES"], inputs["x"].shape[0]
    calls = [prepared(original, inputs), prepared(copy, inputs)]
    with torch.inference_mode():
        first, doubt = _slowdown(_ratios(_timers(calls, device), seconds / 2)[0])
        if doubt < wanted / 4:  # else noise, not rows, would set the share
            shares[rows] *= min(LARGEST_FIT, max(1 / LARGEST_FIT, wanted / max(first, 1e-9)))
        ratios, original_s = _ratios(_timers(calls, device), seconds)
    slowdown, half_width = _slowdown(ratios)
    return {"share": shares[rows], "slowdown": slowdown, "half_width": half_width, "pairs": len(ratios),
            "original_s": original_s}


def _slowdown(ratios: list[float]) -> tuple[float, float]:
    """(median ratio less 1, half-width of its 95 % interval from the medians of BLOCKS parts)."""
    size = max(1, len(ratios) // BLOCKS)
    parts = [statistics.median(ratios[i:i + size]) for i in range(0, size * (len(ratios) // size), size)]
    spread = statistics.stdev(parts) / len(parts) ** 0.5 if len(parts) > 1 else float("inf")
    return statistics.median(ratios) - 1, 2.09 * spread


def _module(place: Path | None, package: str, scenario: Scenario, device: Any) -> Any:
    """The operator from `place`, or the baseline's, with random weights."""
    from fastkernels.bench.grade import clear_choices, randomise_weights
    from fastkernels.bench.isolate.build import build
    from fastkernels.registry import Overlay
    from fastkernels.runtime.weights import finish_weights

    module = Overlay(place, package).install().module(scenario.relative_module)
    built = build(getattr(module, scenario.class_name), scenario, device)
    randomise_weights(built, 1)
    clear_choices(built, scenario, 4)
    finish_weights(built)
    return built


def _timers(calls: list[Callable[[], Any]], device: Any) -> list[Callable[[], float]]:
    """For each call a function that makes it once and returns its seconds."""
    if device.type != "cuda":
        return [partial(_seconds, call) for call in calls]
    from benchmarks.device_time import replay_s
    from fastkernels.bench.timing.capture import capture

    return [partial(replay_s, capture(device, call)) for call in calls]


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _ratios(timers: list[Callable[[], float]], seconds: float) -> tuple[list[float], float]:
    """(copy over original for each pair of calls, median seconds of the original)."""
    times = _alternate(timers, seconds)
    return [b / a for a, b in zip(*times, strict=True)], statistics.median(times[0])


def _alternate(timers: list[Callable[[], float]], seconds: float) -> list[list[float]]:
    """Seconds of each call. The first tenth of the time only warms up."""
    times: list[list[float]] = [[], []]
    started, number = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds or not times[0]:
        for which in ((0, 1), (1, 0))[number % 2]:
            taken = timers[which]()
            if elapsed > seconds / 10:
                times[which].append(taken)
        number += 1
    return times


def main() -> None:
    """Answer the requests on stdin, one JSON line each."""
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(measure(Path(request["directory"]), Scenario.from_dict(request["scenario"]), request["device"],
                                 request["wanted"], request["seconds"])), flush=True)


if __name__ == "__main__":
    main()
