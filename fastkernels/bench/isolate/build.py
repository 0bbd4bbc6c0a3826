"""Builds an operator's module from a scenario, alike in both workers."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fastkernels.manifest import Scenario
from fastkernels.manifest.model_checks import LEVEL as MODEL_LEVEL
from fastkernels.runtime.served import served
from fastkernels.runtime.weights import default_dtype

DTYPE_KEYS = ("dtype", "params_dtype")
"""Init arguments that are dtypes; a manifest holds their names."""


def init_arguments(scenario: Scenario) -> dict[str, Any]:
    """The init arguments: dtype names turned into dtypes, a model's config into an object with its attributes."""
    return {key: _argument(key, value) for key, value in scenario.init.items()}


def _argument(key: str, value: Any) -> Any:
    if key in DTYPE_KEYS and isinstance(value, str):
        return getattr(torch, value)
    return SimpleNamespace(**value) if key == "config" and isinstance(value, Mapping) else value


def build(cls: type[nn.Module], scenario: Scenario, device: torch.device) -> nn.Module:
    """Build the module on a device, in evaluation mode; a whole model in its config's dtype, to be called as served."""
    arguments = init_arguments(scenario)
    if scenario.level < MODEL_LEVEL:
        with torch.device(device):
            return cls(**arguments).eval()
    with torch.device(device), default_dtype(getattr(torch, arguments["config"].dtype)):
        return served(cls)(**arguments).eval()


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and persistent buffers by name, as a checkpoint holds them."""
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}


def everything_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name, buffers that no checkpoint holds among them."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}
