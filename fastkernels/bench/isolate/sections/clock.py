"""Runs rounds of timed sections on the trusted side: fresh inputs, one side at a time, its clock over checked work.

A section begins when its side is let go and ends when this process has compared all of its outputs. A side is stopped
whenever it is not its turn, so that all that it does runs on its own clock.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from fastkernels.bench.isolate import process_tree
from fastkernels.bench.isolate.cuda_driver import see
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.sections.bell import Bell
from fastkernels.bench.isolate.sections.check import Leaf, comparable, compare_all, undone
from fastkernels.bench.isolate.sections.cores import SharedCore
from fastkernels.bench.isolate.sections.exports import Blocks
from fastkernels.bench.isolate.sections.fresh import FreshInputs
from fastkernels.bench.isolate.sections.idle import IdleDevice
from fastkernels.bench.isolate.sections.link import add_link, linked_input
from fastkernels.bench.isolate.sections.room import Room
from fastkernels.bench.isolate.sections.side import FLUSH_BYTES
from fastkernels.bench.isolate.sections.standstill import Standstill
from fastkernels.bench.isolate.slots import Slot
from fastkernels.bench.timing.sections import Taken
from fastkernels.errors import FastKernelsError

_GONE = (b"Z", b"X")

FIRST = 1
"""Number of the first section."""


@dataclass
class TimedSide:
    """One side as the trusted worker sees it."""

    name: str
    room: Room
    bell: Bell
    root: int
    """Process id; its whole tree is stopped and let go."""
    told: Message
    """What `SectionSide.open` has told, read with distrust."""
    device: torch.device
    is_trusted: bool = False
    """Whether this is the baseline's, which starts no processes."""
    written: Sequence[str] = ()
    """Inputs that calls change."""
    number: int = 0
    """Sections so far."""

    def __post_init__(self) -> None:
        self.still = Standstill(self.root, alone=self.is_trusted)
        start, _ = self.room.span()
        self.blocks = Blocks(self.told.get("blocks"), (start, self.room.layout.size), self.device)
        self.leaves = [_leaf(data) for data in _listed(self.told.get("leaves"))]
        self.is_eager = self.told.get("not_captured") is not None
        self.places = self._places(self.told.get("addresses"))

    def is_alive(self) -> bool:
        """Whether its process has not ended."""
        return process_tree.state(self.root) not in _GONE

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors within name this side."""
        try:
            yield
        except FastKernelsError as error:
            error.side = self.name  # type: ignore[attr-defined]
            raise

    def locate(self) -> None:
        """After a section of eager calls: find where its outputs lie now."""
        if self.is_eager:
            self.places = self._places(self.bell.table())

    def output(self, call: int, leaf: int) -> torch.Tensor:
        """One output where it lies."""
        slot = self.leaves[leaf]
        if slot.extent_bytes == 0:
            return torch.empty(slot.shape, dtype=slot.torch_dtype, device=self.device)
        flat = see(int(self.places[leaf][call]), slot.extent_bytes, self.device).view(slot.torch_dtype)
        return flat.as_strided(slot.shape, slot.stride)

    def addresses(self, leaf: int) -> torch.Tensor:
        """int64 [calls]: one output of all calls."""
        return torch.tensor(self.places[leaf], dtype=torch.int64, device=self.device)

    def _places(self, addresses: Any) -> list[list[int]]:
        """[leaf][call]: where each output lies in this process; ProtocolError for what cannot be."""
        calls, leaves = self.room.layout.sets, len(self.leaves)
        if not isinstance(addresses, list) or len(addresses) != calls * leaves \
                or not all(type(address) is int for address in addresses):
            raise ProtocolError("a side does not say where its outputs lie")
        return [[self.blocks.here(addresses[call * leaves + leaf], slot.extent_bytes) if slot.extent_bytes else 0
                 for call in range(calls)] for leaf, slot in enumerate(self.leaves)]


@dataclass
class SectionClock:
    """Both sides of one scenario."""

    device: torch.device
    baseline: TimedSide
    candidate: TimedSide
    fresh: FreshInputs
    timeout_s: float
    drawable: Sequence[int]
    """Calls of which one is drawn in each section of the candidate's, to be judged by the rules."""
    drawn: int = 0
    outputs: list[torch.Tensor] = field(default_factory=list)
    """What the drawn call of the last section returned."""

    def __post_init__(self) -> None:
        self._flushed = torch.zeros(FLUSH_BYTES // 4, dtype=torch.int32, device=self.device)
        self._idle = IdleDevice(self.device)
        self._core = SharedCore()
        self._leaves: dict[str, list[Leaf]] = {}
        self._scales: list[float] = []
        if [(leaf.shape, leaf.dtype) for leaf in self.baseline.leaves] \
                != [(leaf.shape, leaf.dtype) for leaf in self.candidate.leaves]:
            raise ProtocolError("outputs of timed calls have other shapes or dtypes than those before")

    def before(self, call: int) -> dict[str, Any]:
        """Inputs of a call of the candidate's before it was made: as drawn, and what the call before it has added."""
        found = self.fresh.before(call)
        name = linked_input(found)
        leaf = next((number for number, slot in enumerate(self.candidate.leaves)
                     if slot.torch_dtype.is_floating_point and slot.extent_bytes), None)
        if call and name is not None and leaf is not None:
            add_link(found[name], self.candidate.output(call - 1, leaf), self.fresh.narrow)
        return found

    def begin(self) -> None:
        """Wait for both sides and hold them still, on one core."""
        for side in (self.baseline, self.candidate):
            side.number += 1
            with side.named():
                side.bell.wait_ready(side.number, self.timeout_s, side.is_alive)
                side.still.stop()
        self._core.take([*self.baseline.still.members, *self.candidate.still.members])

    def round(self, candidate_first: bool) -> tuple[dict[str, Taken], int | None]:
        """Time both sides on fresh inputs; their times, and a call of the candidate's that was not done, if any."""
        self.fresh.renew()
        self._section(self.baseline, timed=False)  # what is due
        self._section(self.candidate, timed=False)  # on old inputs: both processes have then run as lately
        self.fresh.hand_over()
        self._scales = [_scale(self.baseline.output(0, leaf)) for leaf in range(len(self.baseline.leaves))]
        for side in (self.baseline, self.candidate):
            self._leaves[side.name] = self.compared(side)
            if side.number == FIRST + 1:
                compare_all(self._leaves[side.name])  # compiles
        self.drawn = self.drawable[secrets.randbelow(len(self.drawable))]
        taken: dict[str, Taken] = {}
        wrong: int | None = None
        for side in (self.candidate, self.baseline) if candidate_first else (self.baseline, self.candidate):
            taken[side.name] = self._section(side)
            if side is self.candidate:
                wrong = undone(self._leaves[side.name])
        return taken, wrong

    def end(self) -> None:
        """Let both sides go where they may run, and end their service."""
        self._core.give_back()
        for side in (self.baseline, self.candidate):
            side.bell.end()
            side.still.go_on()

    def close(self) -> None:
        """Let go of the sides' memory."""
        for side in (self.baseline, self.candidate):
            side.blocks.close()

    def _section(self, side: TimedSide, timed: bool = True) -> Taken:
        """One section of a side that is stopped, and is stopped again afterwards."""
        self.fresh.restore(side.room)
        self._flushed.fill_(1)
        torch.cuda.synchronize(self.device)
        if timed:
            self._idle.wait()
        clock = time.perf_counter
        let_go = clock()
        side.bell.call(side.number)
        side.still.go_on()
        with side.named():
            side.bell.wait_awake(side.number, self.timeout_s, side.is_alive)
            rung = clock()
            side.bell.ring(side.number)
            side.bell.wait_done(side.number, self.timeout_s, side.is_alive)
        done = clock()
        self._check(side)
        seen = clock()
        side.still.stop()
        side.number += 1
        if side is self.baseline:
            self.candidate.still.check()
        started = clock()
        self._check(side)
        return Taken(woke_s=rung - let_go, ran_s=done - rung, seen_s=seen - done, check_s=clock() - started)

    def _check(self, side: TimedSide) -> None:
        """Compare all outputs, keep those of the drawn call, and wait for the device."""
        side.locate()
        if self.baseline.is_eager or side.is_eager:
            self._leaves[side.name] = self.compared(side)
        compare_all(self._leaves.get(side.name, []))
        if side is self.candidate and self._scales:
            self.outputs = [side.output(self.drawn, leaf).clone() for leaf in range(len(side.leaves))]
        torch.cuda.synchronize(self.device)

    def compared(self, side: TimedSide) -> list[Leaf]:
        """Every output of a side beside the baseline's, and every input that calls write to."""
        base, found = self.baseline, []
        for leaf, (got, due) in enumerate(zip(side.leaves, base.leaves, strict=True)):
            if self._scales and got.extent_bytes and comparable(got):
                found.append(self._leaf(got, due, side.addresses(leaf), base.addresses(leaf), self._scales[leaf]))
        for slot in side.room.layout.inputs:
            if slot.name in side.written and comparable(slot):
                own, due_stack = side.room.stack(slot.name), base.room.stack(slot.name)
                found.append(self._leaf(slot, slot, _addresses(own), _addresses(due_stack), _scale(due_stack[0])))
        return found

    def _leaf(self, got: Slot, due: Slot, got_at: torch.Tensor, due_at: torch.Tensor, scale: float) -> Leaf:
        return Leaf(got, due, got_at, due_at, torch.zeros_like(got_at, dtype=torch.int32), scale)


def _leaf(data: Any) -> Slot:
    if not isinstance(data, Mapping):
        raise ProtocolError("no description of an output")
    return Slot.from_dict({"name": "output", "offset": 0, **data})


def _listed(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise ProtocolError("no descriptions of outputs")
    return data


def _addresses(stack: torch.Tensor) -> torch.Tensor:
    step = stack.stride(0) * stack.element_size()
    return stack.data_ptr() + step * torch.arange(stack.shape[0], dtype=torch.int64, device=stack.device)


def _scale(tensor: torch.Tensor) -> float:
    """Root mean square of what is finite; 1 for integers."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 1.0
    wide = tensor.float()
    return float(wide[wide.isfinite()].square().mean().sqrt().nan_to_num())
