"""Grades the baselines against their oracles and prints what the trusted side of grading costs, by operator.

    python benchmarks/grading_cost.py [--device cuda] [--level 2 3] [--op rms_norm] [--model qwen3] [--tp 8]
                                      [--tokens 1 512] [--every] [--verbose]

Seconds of drawing inputs and of judging, as wall clock over all planned draws of a scenario; the call that is judged is
the baseline's own. By default one scenario for each operator, variant and token count: the first; --every takes all.
What does not fit into the memory, or is too large for a CPU, is left out and counted.
"""

import argparse
import importlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import nn

from fastkernels.bench.grade import (
    CallOutcome,
    Judge,
    check_task,
    clear_choices,
    make_inputs,
    merge,
    plan_draws,
    randomise_weights,
)
from fastkernels.bench.grade.effects import copies
from fastkernels.bench.isolate.build import build
from fastkernels.bench.kernels import GraderSettings, left_out
from fastkernels.manifest import Scenario, Selection, load_manifest
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.parallel import MirroredRank, set_tp_group
from fastkernels.runtime.weights import finish_weights


def baseline(scenario: Scenario, device: torch.device) -> nn.Module:
    """The baseline module with random weights."""
    module = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
    built = build(getattr(module, scenario.class_name), scenario, device)
    randomise_weights(built, 3)
    clear_choices(built, scenario, 4)
    finish_weights(built)
    return built


def wait(device: torch.device) -> float:
    """The clock, once the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def selected(options: argparse.Namespace) -> Iterator[Scenario]:
    """The scenarios to grade."""
    seen, omitted, settings = set(), 0, GraderSettings(device=options.device)
    selection = Selection(
        targets=tuple(options.op), levels=tuple(options.level), models=tuple(options.model), tps=tuple(options.tp),
        seqlens=tuple(options.tokens),
    )  # fmt: skip
    for scenario in load_manifest().scenarios(selection):
        key = scenario.shape_key if options.every else (scenario.op, scenario.variant, scenario.tokens)
        if key in seen:
            continue
        if left_out(scenario, settings) is not None:
            omitted += 1
            continue
        seen.add(key)
        yield scenario
    print(f"{omitted} scenarios are too large for this machine")


def main() -> None:
    """Print one line for each operator and one for each that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--op", nargs="*", default=())
    parser.add_argument("--level", nargs="*", type=int, default=(1,))
    parser.add_argument("--model", nargs="*", default=())
    parser.add_argument("--tp", nargs="*", type=int, default=())
    parser.add_argument("--tokens", nargs="*", type=int, default=())
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    totals: dict[str, list[tuple[float, float, float, int]]] = defaultdict(list)
    failures = 0
    for scenario in selected(options):
        with set_tp_group(MirroredRank(scenario.rank, scenario.tp)):
            row, message = cost(scenario, device)
        totals[scenario.op].append(row)
        failures += bool(message)
        if options.verbose or message:
            times = f"build {row[0]:6.3f} inputs {row[1]:6.3f} judge {row[2]:6.3f} s"
            print(f"{scenario.id:56} {times}  {message}", flush=True)
        if device.type == "cuda" and torch.cuda.memory_reserved() > 1 << 34:
            torch.cuda.empty_cache()
    print(f"{'operator':30} scenarios  draws  median s  largest s  (drawing inputs and judging, per scenario)")
    for op, rows in totals.items():
        spent = sorted(row[1] + row[2] for row in rows)
        print(f"{op:30} {len(rows):9}  {rows[0][3]:5}  {spent[len(spent) // 2]:8.3f}  {spent[-1]:9.3f}")
    sys.exit(1 if failures else 0)


def cost(scenario: Scenario, device: torch.device) -> tuple[tuple[float, float, float, int], str]:
    """(build, inputs, judge seconds, draws) and what went wrong."""
    start = wait(device)
    module = baseline(scenario, device)
    built = wait(device) - start
    invalid = check_task(module, scenario, device)
    if invalid is not None:
        return (built, 0.0, 0.0, 0), invalid.message
    judge, findings, drawing, judging = Judge(module, scenario), [], 0.0, 0.0
    for draw in plan_draws(scenario, 7, device.type):
        start = wait(device)
        inputs = make_inputs(scenario, draw, device, module)
        drawing += wait(device) - start
        own = copies(inputs)
        with torch.inference_mode():
            outputs = invoke(module, own)
        start = wait(device)
        findings.append(judge.judge(inputs, CallOutcome(outputs, own), draw))
        judging += wait(device) - start
    found = merge(findings)
    return (built, drawing, judging, len(findings)), "" if found.verdict.ok else f"{found.verdict}: {found.message}"


if __name__ == "__main__":
    main()
