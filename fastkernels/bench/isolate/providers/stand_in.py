"""What a provider puts in the baseline's place in timed calls, and the choice of the provider."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from fastkernels.bench.isolate.providers.catalog import VLLM
from fastkernels.manifest import Scenario


class NoStandInError(Exception):
    """The provider has nothing for this scenario; the message says why."""


@dataclass
class StandIn:
    """What is timed as the baseline."""

    call: Callable[..., Any]
    """Takes forward's arguments by name and returns what the baseline's forward does."""
    provider: str
    """Who computes, for results."""
    weights: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """(its own tensor, the baseline's) of equal shape and dtype: the same memory."""
    is_baseline: bool = False
    """True where it is the baseline's module itself, which needs no check against itself."""

    def current(self) -> Callable[..., Any]:
        """`call`, with its weights where the baseline's lie now."""
        for own, baseline in self.weights:
            own.data = baseline.data
        return self.call


class Provider(Protocol):
    """Makes stand-ins."""

    def stand_in(self, baseline: nn.Module, scenario: Scenario) -> StandIn:
        """Return what is timed for a baseline with its weights; NoStandInError where there is nothing."""


def open_provider(name: str, device: torch.device) -> Provider:
    """Return the provider of this name, one of catalog.BASELINES."""
    if name == VLLM:
        from fastkernels.bench.isolate.providers.vllm import VllmProvider

        return VllmProvider(device)
    from fastkernels.bench.isolate.providers.own import OwnProvider

    return OwnProvider(device, native=name == "native")
