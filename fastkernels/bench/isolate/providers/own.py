"""The project's own operators as the baseline: the device's production path, or plain PyTorch."""

import torch
from torch import nn

from fastkernels.bench.isolate.providers.stand_in import StandIn
from fastkernels.manifest import Scenario
from fastkernels.runtime.op import Op


class OwnProvider:
    """Times the baseline's own module."""

    def __init__(self, device: torch.device, native: bool) -> None:
        self._device = device
        self._native = native

    def stand_in(self, baseline: nn.Module, scenario: Scenario) -> StandIn:
        """The module itself, every operator in it set to its native path where that was asked for."""
        del scenario
        parts = [part for part in baseline.modules() if isinstance(part, Op)]
        for part in parts if self._native else ():
            part.native_only = True
        names = {"native" if self._native else part.provider_on(self._device) for part in parts}
        return StandIn(baseline, "+".join(sorted(names)) or "native", is_baseline=True)
