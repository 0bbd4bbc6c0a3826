"""Scenarios and outcomes for the tests of grading."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fastkernels.bench.grade import CallOutcome, Draw, Finding, Judge, make_inputs
from fastkernels.bench.grade.effects import copies
from fastkernels.manifest.scenario import InputSpec, Scenario


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_scenario(*inputs: InputSpec, tokens: int = 5, phase: str = "decode", level: int = 1) -> Scenario:
    return Scenario(
        op="op", module="op", class_name="Op", level=level, category="test", model="m", model_id="a/m", tp=1,
        tokens=tokens, phase=phase, variant="", init={}, inputs=inputs,
    )


@pytest.fixture
def scenario_of() -> Callable[..., Scenario]:
    return make_scenario


Change = Callable[[Any, dict[str, Any]], Any]


@pytest.fixture
def judged() -> Callable[..., Finding]:
    """judged(module, scenario, change): the module's own outcome, altered by change(outputs, inputs_after) in place, or
    by what that returns where the module returns anything."""

    def run(module: nn.Module, scenario: Scenario, change: Change | None = None, hard: str = "normal",
            **outcome: Any) -> Finding:
        draw = Draw(f"{hard}@t{scenario.tokens}#1", scenario.tokens, 11, hard)
        inputs = make_inputs(scenario, draw, torch.device("cpu"))
        after = copies(inputs)
        with torch.inference_mode():
            outputs = module(**after)
            changed = None if change is None else change(outputs, after)
        outputs = outputs if changed is None or outputs is None else changed
        return Judge(module, scenario).judge(inputs, CallOutcome(outputs, after, **outcome), draw)

    return run
