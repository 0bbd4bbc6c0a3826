"""The trusted worker of a scenario of several ranks: one baseline a rank, each with arenas of its own, in one process.

What a rank's call must give follows from the parts of all: the trusted side knows them and exchanges nothing.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import nn

from fastkernels.bench.grade import Draw
from fastkernels.bench.isolate.arena import Arena, open_arenas
from fastkernels.bench.isolate.baseline_worker import BaselineService
from fastkernels.bench.isolate.devices import device_of
from fastkernels.bench.isolate.files import ARENAS
from fastkernels.bench.isolate.protocol import Message
from fastkernels.manifest import Scenario
from fastkernels.manifest.scenario import RANK_PART
from fastkernels.runtime.parallel import set_tp_group

SEED_STEP = 0x9E3779B97F4A7C15
"""Tells the seeds of ranks apart."""


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one within a block; nothing on a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class KnownParts:
    """A tensor parallel group whose other ranks are not there, but their parts are known, on whatever device."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.parts: list[torch.Tensor] = []
        """Every rank's part in order; none where nothing is to be exchanged, as while the task is checked."""

    def __deepcopy__(self, memo: dict[int, object]) -> "KnownParts":
        """The oracle's copy of a module has the same parts."""
        return self

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of all parts in order of rank, rounded to x's dtype after each; written into x."""
        for rank, part in enumerate(self.parts):
            x = x.copy_(part) if rank == 0 else x.add_(part.to(x))
        return x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """All parts joined along the last dimension."""
        return torch.cat([part.to(x) for part in self.parts], dim=-1) if self.parts else x


class RankBaseline(BaselineService):
    """One rank's baseline and judge."""

    def __init__(self, device: torch.device, arenas: list[Arena], group: KnownParts) -> None:
        super().__init__(device, arenas)
        self.group = group

    def handle(self, message: Message) -> Message:
        """Answer one request with the rank's device as the current one."""
        with current(self.device):
            return super().handle(message)

    def enter_group(self, scenario: Scenario) -> None:
        """Nothing: modules of several ranks live in this process, and each finds its group when it is built."""

    def part(self) -> torch.Tensor:
        """This rank's part in the last draw."""
        name = next(spec.name for spec in self._scenario.inputs if spec.values == RANK_PART)
        part: torch.Tensor = self._before[name]
        return part

    def _build(self, seed: int) -> nn.Module:
        self.group.parts = []
        with set_tp_group(self.group):
            return super()._build(seed)

    def own_draw(self) -> Draw:
        """The draw with a seed of the rank's own.

        Rank 0 has normal values where others have ties: of rows of one value the sum might be rounding alone.
        """
        seed = (self._draw.seed + self.group.rank * SEED_STEP) % 2**63
        tied = self.group.rank == 0 and self._draw.hard == "ties"
        return replace(self._draw, seed=seed, hard="normal" if tied else self._draw.hard)


class GroupBaseline:
    """Answers requests that name a `rank`; what names none goes to all."""

    def __init__(self, kind: str, fds: Sequence[int]) -> None:
        """kind: `cpu` or `cuda`, where each rank has its GPU. fds: the files of all arenas, in order of rank."""
        size = len(fds) // ARENAS
        self._ranks = []
        for rank in range(size):
            device = torch.device(device_of(rank, kind))
            with current(device):
                arenas = open_arenas(device, fds[ARENAS * rank:ARENAS * (rank + 1)])
                self._ranks.append(RankBaseline(device, arenas, KnownParts(rank, size)))

    def handle(self, message: Message) -> Message:
        """Answer one request; before a call is judged every rank learns the parts of all."""
        rank = message.pop("rank", None)
        if rank is None:
            answers = [service.handle(dict(message)) for service in self._ranks]
            return answers[0]
        if message["do"] == "judge":
            parts = [service.part() for service in self._ranks]
            for service in self._ranks:
                service.group.parts = parts
        return self._ranks[int(rank)].handle(message)
