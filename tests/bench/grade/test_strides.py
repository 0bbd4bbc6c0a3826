"""Inputs that the model passes as slices are slices in every draw, at every token count, and in copies made of them."""

import pytest
import torch

from fastkernels.bench.grade import make_inputs, plan_draws
from fastkernels.bench.isolate.baseline_worker import _moved_along
from fastkernels.bench.kernels.limits import input_bytes
from fastkernels.manifest.scenario import InputSpec, Scenario

HEADS = InputSpec("x", "normal", ("tokens", 4, 64), "bfloat16", strides=(512, 64, 1))
PARTS = InputSpec("x", "normal", ("tokens", 4, 16), "bfloat16", strides=(256, 64, 1))
DENSE = InputSpec("x", "normal", ("tokens", 4, 64), "bfloat16")


@pytest.mark.parametrize("tokens", [1, 8, 128])
@pytest.mark.parametrize("spec", [HEADS, PARTS])
def test_every_draw_has_them(scenario_of, spec, tokens):
    scenario = scenario_of(spec, tokens=tokens)
    for draw in plan_draws(scenario, 3, "cpu"):
        x = make_inputs(scenario, draw, torch.device("cpu"))["x"]
        assert (x.shape, x.stride()) == ((draw.tokens, *spec.shape[1:]), spec.strides)


def test_values_are_those_of_rows_that_lie_together(scenario_of):
    scenario = scenario_of(HEADS)
    draw = plan_draws(scenario, 3, "cpu")[0]
    dense = make_inputs(scenario_of(DENSE), draw, torch.device("cpu"))["x"]
    assert torch.equal(make_inputs(scenario, draw, torch.device("cpu"))["x"], dense)


def test_sets_made_of_another_keep_them(scenario_of):
    scenario = scenario_of(HEADS)
    given = make_inputs(scenario, plan_draws(scenario, 3, "cpu")[0], torch.device("cpu"))
    moved = _moved_along(given, 1)["x"]
    assert moved.stride() == HEADS.strides
    assert torch.equal(moved.flatten(), given["x"].flatten().roll(1))


def test_they_make_another_shape_and_cross_to_workers(scenario_of):
    scenario = scenario_of(HEADS)
    assert len({scenario.shape_key, scenario_of(DENSE).shape_key, scenario_of(PARTS).shape_key}) == 3
    assert Scenario.from_dict(scenario.to_dict()) == scenario
    assert input_bytes(scenario) == 2 * (4 * 512 + 256)
    assert input_bytes(scenario_of(DENSE)) == 2 * 5 * 256
