"""Random weights, so that none of them can be ignored unnoticed."""

import torch
from torch import nn

from fastkernels.bench.grade.noise import fill_normal, seeded

NORM_SPREAD = 0.2
"""Norm weights are normal around 1 with this standard deviation."""

BIAS_SPREAD = 0.5
"""Biases are normal around 0 with this standard deviation."""


CORRECTION_MOST = 0.08
"""A router's correction bias, which is added to scores between 0 and 1, is uniform between minus this and this: weights
taken from biased scores are some per cent off, and the choice still follows the scores by a clear margin."""

BANNED_SHARE = 16
"""But for one expert in this many, whose bias is lower by BANNED."""

BANNED = 1.0
"""More than any score: no such expert is chosen, however large its logit."""

SINK = (4.0, 1.0)
"""Attention sinks, mean and standard deviation: beside 100 to 1000 keys of unit scale they take some per cent."""

OF_SOFT_CAP = 0.25
"""Standard deviation of soft-capped scores, as a part of the cap: the largest of a thousand are 0.8 of it, which tanh
takes to 0.66."""


def randomise_weights(module: nn.Module, seed: int) -> None:
    """Fill every float parameter, so that the output of each part keeps the scale of its input.

    By name and dimensions. A name with `bias` is a bias, around 0; one with `sink` an attention sink; other vectors are
    norm weights, around 1, or around 0 where the class name holds `Gemma`, whose norms add the 1; parameters of a
    module whose class name holds `Embedding` are tables of unit noise; of anything else, stacked experts among them,
    the last dimension is the fan-in: 1/sqrt(fan_in). Buffers stay as they are. Queries of soft-capped attention are
    larger by OF_SOFT_CAP of the cap.
    """
    with torch.no_grad():
        for owner_name, owner in module.named_modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if not parameter.is_floating_point() or not parameter.numel():
                    continue
                generator = seeded(parameter.device, seed, owner_name, name)
                if "correction" in name and "bias" in name:
                    fill_correction(parameter, generator)
                    continue
                mean, spread = _scale(parameter, name, type(owner).__name__)
                _fill(parameter, mean, spread, generator)
        for owner in module.modules():
            _reach_soft_cap(owner)


def _reach_soft_cap(owner: nn.Module) -> None:
    """Scale the queries of an attention block whose scores are soft-capped: scores of unit size never meet the cap."""
    cap = getattr(getattr(owner, "attn", None), "logits_soft_cap", None)
    if cap:
        owner.get_parameter("qkv_proj.weight")[: owner.q_size].mul_(cap * OF_SOFT_CAP)


def fill_correction(bias: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Fill a router's correction bias [E] in place; returns it."""
    noise = torch.rand(bias.shape, generator=generator, device=bias.device)
    bias.copy_((2.0 * noise - 1.0) * CORRECTION_MOST)
    banned = torch.randperm(bias.numel(), generator=generator, device=bias.device)[: bias.numel() // BANNED_SHARE]
    bias[banned] -= BANNED
    return bias


def _scale(parameter: torch.Tensor, name: str, owner: str) -> tuple[float, float]:
    """Mean and standard deviation."""
    if "bias" in name:
        return 0.0, BIAS_SPREAD
    if "sink" in name:
        return SINK
    if parameter.dim() <= 1:
        return 0.0 if "Gemma" in owner else 1.0, NORM_SPREAD
    return 0.0, 1.0 if "Embedding" in owner else float(parameter.shape[-1] ** -0.5)


def _fill(parameter: torch.Tensor, mean: float, spread: float, generator: torch.Generator) -> None:
    fresh = fill_normal(torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device), generator)
    parameter.copy_(fresh.mul_(spread).add_(mean))
