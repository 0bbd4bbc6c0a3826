"""Random weights in the place of a checkpoint, the same for one seed at every tensor parallel degree."""

from collections.abc import Iterator

import torch
from torch import nn

from fastkernels.bench.grade.noise import fill_normal, seeded
from fastkernels.errors import WeightsError
from fastkernels.runtime.weights import targets

BIAS_SPREAD = 0.02
NORM_SPREAD = 0.1


def dummy_weights(model: nn.Module, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor that the model would load, unsharded, on the model's device.

    Matrices are normal with deviation 1 / sqrt(columns), which keeps activations at unit scale; other vectors than
    biases are norm weights around 1. Numbers depend on seed, tensor name and kind of device alone.
    """
    for name, target in targets(model, model.stacks()).items():  # type: ignore[operator]
        shape = target.shape()
        if shape is None:
            raise WeightsError(f"{target.name}: dummy weights need its checkpoint_shape (see set_weight_loader)", name)
        device, dtype = target.parameter.device, target.parameter.dtype
        values = fill_normal(torch.empty(shape, dtype=dtype, device=device), seeded(device, seed, name))
        if name.endswith("bias"):
            values.mul_(BIAS_SPREAD)
        elif len(shape) == 1:
            values.mul_(NORM_SPREAD).add_(1.0)
        else:
            values.mul_(shape[-1] ** -0.5)
        yield name, values
