"""Finds tasks that cannot tell right from wrong, before any candidate is graded."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade.draws import Draw
from fastkernels.bench.grade.effects import bits, copies
from fastkernels.bench.grade.inputs import make_inputs
from fastkernels.bench.grade.outcome import Finding
from fastkernels.bench.grade.tolerances import limits
from fastkernels.bench.grade.tree import tensors
from fastkernels.manifest.scenario import Scenario
from fastkernels.results import Verdict
from fastkernels.runtime.invoke import invoke

TOKENS = 5
"""Tokens of the two calls that are compared, at most."""

NOT_FINITE = "is NaN or infinite"
FATAL = ("lies under", NOT_FINITE)
"""How reasons begin for which one output is enough."""


def check_task(module: nn.Module, scenario: Scenario, device: torch.device | None = None) -> Finding | None:
    """Return TASK_INVALID where the outputs of two calls on normal values are constant, alike, not finite or too small.

    Outputs and mutated inputs count. One that carries signal is enough, but none may lie under its tolerance. The
    calls take up to TOKENS tokens; `device` is by default that of the module's weights, else the CPU.
    """
    device = device or next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    tokens = min(TOKENS, scenario.tokens)
    scenario = replace(scenario, golden=None)  # recorded values are the same in every call
    first, second = (_effects(module, make_inputs(scenario, Draw("task", tokens, seed, "normal"), device, module))
                     for seed in (1, 2))
    if not first:
        return Finding(Verdict.TASK_INVALID, "the baseline returns no tensor and changes no input")
    mute = {name: _mute(first[name], second.get(name)) for name in first}
    silent = {name: reason for name, reason in mute.items() if reason}
    fatal = {name: reason for name, reason in silent.items() if reason.startswith(FATAL)}
    if not fatal and len(silent) < len(first):
        return None
    name, reason = next(iter((fatal or silent).items()))
    return Finding(Verdict.TASK_INVALID, f"the task cannot tell right from wrong: {name} {reason}")


def _effects(module: nn.Module, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Outputs and changed inputs of one call by name."""
    own = copies(inputs)
    with torch.inference_mode():
        outputs = tensors(invoke(module, own))
    changed = {f"input {name}": own[name] for name, value in inputs.items()
               if isinstance(value, torch.Tensor) and not torch.equal(bits(value), bits(own[name]))}
    return {**outputs, **changed}


def _mute(first: torch.Tensor, second: torch.Tensor | None) -> str:
    """Why this tensor tells nothing, or ''."""
    if first.numel() == 0 or second is None:
        return "is empty" if first.numel() == 0 else ""
    wrong = int((~first.isfinite()).sum())
    if wrong:
        return f"{NOT_FINITE} in {wrong} of {first.numel()} elements, and no input is"
    if first.shape == second.shape and torch.equal(first, second):
        return "is the same for other inputs"
    if first.numel() > 1 and bool((first == first.flatten()[0]).all()):
        return "is constant"
    if not first.is_floating_point() or first.is_complex():
        return ""
    own = limits(first.dtype)
    largest = float(first.double().abs().max())
    if largest <= own.atol:
        return f"lies under the tolerance: largest value {largest:.3g}, tolerance {own.atol:g}"
    if first.shape == second.shape:
        a, b = first.double(), second.double()
        if bool(((a - b).abs() <= own.atol + own.rtol * b.abs()).all()):
            return "is the same within the tolerance for other inputs"
    return ""
