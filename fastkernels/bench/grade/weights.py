"""Random weights, so that none of them can be ignored unnoticed."""

import torch
from torch import nn

from fastkernels.bench.grade.noise import fill_normal, seeded

NORM_SPREAD = 0.2
"""Norm weights are normal around 1 with this standard deviation."""

BIAS_SPREAD = 0.5
"""Biases are normal around 0 with this standard deviation."""


def randomise_weights(module: nn.Module, seed: int) -> None:
    """Fill every float parameter: norms around 1, biases around 0, tables with unit noise, matrices 1/sqrt(fan_in).

    By name and dimensions: `bias` in the last part of the name is a bias; other vectors are norm weights; parameters of
    a module whose class name holds `Embedding` are tables; of anything else the last dimension is the fan-in, which
    keeps outputs at the scale of the inputs. Buffers stay as they are.
    """
    with torch.no_grad():
        for owner_name, owner in module.named_modules():
            table = "Embedding" in type(owner).__name__
            for name, parameter in owner.named_parameters(recurse=False):
                if parameter.is_floating_point() and parameter.numel():
                    _fill(parameter, name, table, seeded(parameter.device, seed, owner_name, name))


def _fill(parameter: torch.Tensor, name: str, table: bool, generator: torch.Generator) -> None:
    fresh = fill_normal(torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device), generator)
    if "bias" in name:
        fresh.mul_(BIAS_SPREAD)
    elif parameter.dim() <= 1:
        fresh.mul_(NORM_SPREAD).add_(1.0)
    elif not table:
        fresh.mul_(parameter.shape[-1] ** -0.5)
    parameter.copy_(fresh)
