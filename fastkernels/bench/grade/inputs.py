"""Draws the inputs of one call."""

from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade.draws import Draw
from fastkernels.bench.grade.edges import EDGES, FAR, FIXED, edge_scenario, window_of
from fastkernels.bench.grade.golden import recorded
from fastkernels.bench.grade.noise import seeded
from fastkernels.bench.grade.request import Request
from fastkernels.bench.grade.spoil import NAN, put_nan_rows, spoil
from fastkernels.bench.grade.values import GENERATORS
from fastkernels.errors import ManifestError, one_of
from fastkernels.manifest.scenario import Scenario


def make_inputs(
    scenario: Scenario, draw: Draw, device: torch.device, module: nn.Module | None = None
) -> dict[str, Any]:
    """Return the inputs by name at the draw's token count: tensors on `device`, literals as they are.

    Names of what the forward context holds start with `context.`. `module`: what the inputs are for, since some depend
    on its weights (`routed`). Where the scenario has a recorded call, normal draws at its token count repeat it.
    """
    scenario = scenario.with_tokens(draw.tokens)
    if draw.hard in (EDGES, FAR):
        scenario = edge_scenario(scenario, draw.hard, draw.seed, module)
    weights = {} if module is None else dict(module.named_parameters())
    call = recorded(scenario, draw, device)
    specs = {spec.name: spec for spec in scenario.inputs}
    drawn: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in specs if call is None else call.names:
        if call is not None and name in call.values:
            drawn[name] = call.values[name]
            continue
        spec = specs[name]
        if spec.values == FIXED:
            drawn[name] = torch.tensor(spec.args["data"], dtype=getattr(torch, spec.dtype), device=device)
            continue
        if spec.values not in GENERATORS:
            raise ManifestError(f"{scenario.id}: input {spec.name}: values: {one_of(spec.values, GENERATORS)}")
        values = GENERATORS[spec.values](Request(
            name=spec.name, shape=scenario.resolved_shape(spec) if call is None else call.shapes[name],
            dtype=getattr(torch, spec.dtype) if spec.dtype else None,
            args=scenario.resolved_args(spec), phase=scenario.phase, hard=draw.hard,
            generator=seeded(device, draw.seed_of(spec.values), spec.name), drawn=drawn, sources=sources,
            weights=weights, tokens=draw.tokens, seed=draw.seed))
        drawn[spec.name] = laid_out(values, spec.strides)
        sources[spec.name] = spec.values
    if draw.hard in (EDGES, FAR):
        spoil(drawn, scenario, draw.seed, window_of(scenario, module))
    elif draw.hard == NAN:
        put_nan_rows(drawn, scenario, draw.seed)
    return drawn


def laid_out(values: Any, strides: tuple[int, ...]) -> Any:
    """The same values as a slice with these strides, in memory of their own; as they are without strides.

    A recorded call may have other dimensions than the manifest's entry: then they stay as they are, too.
    """
    if not strides or len(strides) != values.dim():
        return values
    return torch.empty_strided(values.shape, strides, dtype=values.dtype, device=values.device).copy_(values)
