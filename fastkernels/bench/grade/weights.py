"""Random weights, so that none of them can be ignored unnoticed."""

import torch
from torch import nn

from fastkernels.bench.grade.noise import fill_normal, seeded

NORM_SPREAD = 0.2
"""Norm weights are normal around 1 with this standard deviation."""

BIAS_SPREAD = 0.5
"""Biases are normal around 0 with this standard deviation."""


CORRECTION_SPREAD = 0.02
"""The same for a router's correction bias, which is added to scores between 0 and 1."""

SINK = (4.0, 1.0)
"""Attention sinks, mean and standard deviation: beside 100 to 1000 keys of unit scale they take some per cent."""


def randomise_weights(module: nn.Module, seed: int) -> None:
    """Fill every float parameter, so that the output of each part keeps the scale of its input.

    By name and dimensions. A name with `bias` is a bias, around 0; one with `sink` an attention sink; other vectors are
    norm weights, around 1, or around 0 where the class name holds `Gemma`, whose norms add the 1; parameters of a
    module whose class name holds `Embedding` are tables of unit noise; of anything else, stacked experts among them,
    the last dimension is the fan-in: 1/sqrt(fan_in). Buffers stay as they are.
    """
    with torch.no_grad():
        for owner_name, owner in module.named_modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if parameter.is_floating_point() and parameter.numel():
                    mean, spread = _scale(parameter, name, type(owner).__name__)
                    _fill(parameter, mean, spread, seeded(parameter.device, seed, owner_name, name))


def _scale(parameter: torch.Tensor, name: str, owner: str) -> tuple[float, float]:
    """Mean and standard deviation."""
    if "bias" in name:
        return 0.0, CORRECTION_SPREAD if "correction" in name else BIAS_SPREAD
    if "sink" in name:
        return SINK
    if parameter.dim() <= 1:
        return 0.0 if "Gemma" in owner else 1.0, NORM_SPREAD
    return 0.0, 1.0 if "Embedding" in owner else float(parameter.shape[-1] ** -0.5)


def _fill(parameter: torch.Tensor, mean: float, spread: float, generator: torch.Generator) -> None:
    fresh = fill_normal(torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device), generator)
    parameter.copy_(fresh.mul_(spread).add_(mean))
