"""Whether a task's outputs follow every input and weight by more than the tolerance, and tell its rows apart."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import check_task, make_inputs
from fastkernels.bench.grade.draws import Draw
from fastkernels.bench.grade.effects import bits, copies
from fastkernels.bench.grade.tolerances import BASELINE_FACTOR, ROW_FACTOR, SCALE_FACTOR, limits
from fastkernels.bench.grade.tree import tensors
from fastkernels.bench.isolate.build import state_of
from fastkernels.manifest.scenario import Scenario
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.op import Op
from fastkernels.runtime.weights import finish_weights

SENSITIVE_TOKENS = 5
"""Tokens of the calls, as in check_task, but for batches of several prompts."""

PROMPT_TOKENS = 4
"""Tokens of each prompt on average, where there are several: over one key a softmax follows neither query nor key."""

CHANGED = 1e9
"""Movement of what may not change at all."""

AGREEING = (("cu_seqlens", "same_as", "key_slots"),
            ("sorted_token_ids", "block_experts", "padded_rows"))
"""Values that mean something together only: such inputs are drawn anew as one."""


def tokens_of(scenario: Scenario) -> int:
    """Tokens at which a scenario is examined."""
    prompts = max((int(spec.args["sequences"]) for spec in scenario.inputs if spec.values == "cu_seqlens"), default=1)
    return min(scenario.tokens, SENSITIVE_TOKENS if prompts == 1 else PROMPT_TOKENS * prompts + 1)


def examine(module: nn.Module, task: Scenario, device: torch.device) -> dict[str, Any]:
    """What check_task says, then what no output follows, by how much the others move, and rows that are alike.

    Returns `findings` (sentences), `moves` ({input or weight: [largest movement of an element, of a row or a whole
    tensor], each in units of what the rule for it allows; 0 for an integer output that stays, 1e9 for one that
    changes}), `fixed` (inputs that two draws have alike, not asked) and `under` (largest share of an output's elements
    under the absolute tolerance). Below SENSITIVE_TOKENS only check_task is asked.
    """
    found = check_task(module, task, device)
    findings = [] if found is None else [found.message]
    row: dict[str, Any] = {"findings": findings, "moves": {}, "fixed": [], "under": 0.0}
    if task.tokens < SENSITIVE_TOKENS:
        return row
    first, second = (make_inputs(task, Draw("task", task.tokens, seed, "normal"), device, module) for seed in (1, 2))
    base = effects(module, first)
    for name, inputs in redrawn(task, first, second):
        if inputs is None:
            row["fixed"].append(name)
        else:
            row["moves"][f"input {name}"] = movement(base, effects(module, inputs))
    for name in disturbed(module):
        row["moves"][f"weight {name}"] = movement(base, effects(module, first))
    findings += [f"no output follows {name} = {max(moved):.2g} of what is allowed"
                 for name, moved in row["moves"].items() if max(moved) <= 1.0]
    findings += alike(base, task.tokens)
    row["under"] = max((float((t.abs() <= limits(t.dtype).atol).float().mean()) for t in base.values()
                        if t.is_floating_point() and t.numel()), default=0.0)
    if row["under"] > 0.5:
        findings.append(f"most of an output lies under the absolute tolerance = {row['under']:.0%}")
    return row


def effects(module: nn.Module, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Outputs, in their canonical form, and changed inputs of one call by name."""
    own = copies(inputs)
    with torch.inference_mode():
        outputs = invoke(module, own)
        if isinstance(module, Op):
            outputs = module.canonical(outputs, inputs)
    changed = {f"input {name}": own[name] for name, value in inputs.items()
               if isinstance(value, torch.Tensor) and not torch.equal(bits(value), bits(own[name]))}
    return {**tensors(outputs), **changed}


def redrawn(
    task: Scenario, first: dict[str, Any], second: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(name, the first draw with this input from the second) for each tensor; None where both draws have it alike."""
    names = [spec.name for spec in task.inputs if isinstance(first[spec.name], torch.Tensor)]
    values = {spec.name: spec.values for spec in task.inputs}
    groups = [[name for name in names if values[name] in kinds] for kinds in AGREEING]
    together = {name for group in groups for name in group}
    for group in (*groups, *([name] for name in names if name not in together)):
        if group:
            same = all(torch.equal(first[name], second[name]) for name in group)
            yield "+".join(group), None if same else {**first, **{name: second[name] for name in group}}


def disturbed(module: nn.Module) -> Iterator[str]:
    """Names of the float weights of a checkpoint, each moved along by one element while its name is out.

    What the module derives from its weights after loading is made anew.
    """
    for name, tensor in state_of(module).items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        kept = tensor.clone()
        tensor.copy_(kept.flatten().roll(1).view(kept.shape) if kept.numel() > 1 else kept * 1.5 + 0.5)
        finish_weights(module)
        yield name
        tensor.copy_(kept)
        finish_weights(module)


def movement(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> tuple[float, float]:
    """(element, row or tensor): the largest movement of any output in units of what is allowed.

    1e9 where an output comes, goes, or changes its shape or its integers. What the scale-free rules allow follows from
    the baseline's own error, for which the most that a baseline may have is taken.
    """
    if {name: t.shape for name, t in a.items()} != {name: t.shape for name, t in b.items()}:
        return CHANGED, CHANGED
    moved = [_moved(a[name], b[name]) for name in a]
    return max((m[0] for m in moved), default=0.0), max((m[1] for m in moved), default=0.0)


def _moved(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    if torch.equal(a, b) or not a.numel():
        return 0.0, 0.0
    if not a.is_floating_point():
        return CHANGED, CHANGED
    own = limits(a.dtype)
    a, b = torch.atleast_1d(a.float()), torch.atleast_1d(b.float())
    difference = a - b
    element = float((difference.abs() / (own.atol + own.rtol * a.abs())).max())
    tensor = float(difference.norm() / a.norm()) / (SCALE_FACTOR * BASELINE_FACTOR * own.floor)
    rows = float((difference.norm(dim=-1) / a.norm(dim=-1)).nan_to_num(nan=0.0).max()) / (ROW_FACTOR * own.row_floor)
    return _finite(element), _finite(max(tensor, rows))


def _finite(ratio: float) -> float:
    """What is not a number, or infinite, is a change."""
    return min(ratio, CHANGED) if ratio == ratio else CHANGED


def alike(base: dict[str, torch.Tensor], tokens: int) -> list[str]:
    """Float outputs of which two tokens' rows are the same within the tolerance."""
    found = []
    for name, output in base.items():
        if name.startswith("input ") or not output.is_floating_point() or output.shape[:1] != (tokens,):
            continue
        pairs = [(i, j) for i, j in combinations(range(tokens), 2) if max(_moved(output[i], output[j])) <= 1.0]
        if pairs:
            found.append(f"rows of {name} are alike within the tolerance = {pairs}")
    return found
