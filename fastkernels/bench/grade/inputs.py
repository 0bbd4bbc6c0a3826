"""Draws the inputs of one call."""

from typing import Any

import torch

from fastkernels.bench.grade.draws import Draw
from fastkernels.bench.grade.noise import seeded
from fastkernels.bench.grade.values import GENERATORS, Request
from fastkernels.errors import ManifestError, one_of
from fastkernels.manifest.scenario import Scenario


def make_inputs(scenario: Scenario, draw: Draw, device: torch.device) -> dict[str, Any]:
    """Return the arguments of forward by name at the draw's token count: tensors on `device`, literals as they are."""
    scenario = scenario.with_tokens(draw.tokens)
    drawn: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for spec in scenario.inputs:
        if spec.values not in GENERATORS:
            raise ManifestError(f"{scenario.id}: input {spec.name}: values: {one_of(spec.values, GENERATORS)}")
        drawn[spec.name] = GENERATORS[spec.values](Request(
            name=spec.name, shape=scenario.resolved_shape(spec),
            dtype=getattr(torch, spec.dtype) if spec.dtype else None,
            args=scenario.resolved_args(spec), phase=scenario.phase, hard=draw.hard,
            generator=seeded(device, draw.seed, spec.name), drawn=drawn, sources=sources))
        sources[spec.name] = spec.values
    return drawn
