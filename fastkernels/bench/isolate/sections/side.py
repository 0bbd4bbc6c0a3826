"""A side of a timed section: captures its calls on every set of its room, and runs them when the bell rings."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from fastkernels.bench.isolate.cuda_driver import DriverError
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sections.bell import Bell
from fastkernels.bench.isolate.sections.exports import export_blocks
from fastkernels.bench.isolate.sections.link import add_link, first_float, linked_input
from fastkernels.bench.isolate.sections.room import Room
from fastkernels.bench.isolate.slots import dtype_name
from fastkernels.bench.isolate.tree import Node, describe
from fastkernels.bench.timing.capture import NotCapturableError, capture

FLUSH_BYTES = 2**28
"""What is overwritten to empty the L2 cache before a reading of the side's own: four times that of an H200."""

OWN_READINGS = 10
READ_CALLS = 256
"""Calls of such a reading, at most."""

EAGER_CALLS = 20
"""Calls behind the latency of an eager one."""

EAGER_PASSES = 2
"""Passes of eager calls before outputs are told of, so that the allocator's blocks are those of later passes."""


class CannotBeTimedError(Exception):
    """Why this side's calls cannot be timed in sections; no failure of theirs."""


@dataclass
class Calls:
    """All calls of a section."""

    one: Callable[[int], Any]
    """Makes call `i`."""
    count: int
    device: torch.device
    link: Callable[[Any, int], None] | None = None
    """Has call `i` wait for an output."""

    def __post_init__(self) -> None:
        self.outputs: list[Any] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self.not_captured: str | None = None

    def prepare(self, eager: str | None = None) -> None:
        """Capture them in a graph; where that is not possible, run them eagerly until memory is as it will be.

        eager: why they are not to be captured.
        """
        self.not_captured = eager
        if eager is None:
            try:
                self._graph = capture(self.device, self._all)
            except NotCapturableError as error:
                self.not_captured = str(error)
        if self.not_captured is not None:
            for _ in range(EAGER_PASSES):
                self._all()
        torch.cuda.synchronize(self.device)

    def run(self) -> None:
        """Make all calls once and wait for the device."""
        if self._graph is None:
            self._all()
        else:
            self._graph.replay()
        torch.cuda.synchronize(self.device)

    def _all(self) -> None:
        self.outputs = []  # what the pass before has left is free for this one
        with torch.inference_mode():
            for index in range(self.count):
                self.outputs.append(self.one(index))
                if self.link is not None and index + 1 < self.count:
                    self.link(self.outputs[-1], index + 1)


class SectionSide:
    """Serves sections for one room; both sides run this code."""

    def __init__(self, room: Room, bell: Bell, one: Callable[[int], Any], device: torch.device) -> None:
        """one: makes call `i` on set `i`."""
        self._room, self._bell, self._one, self._device = room, bell, one, device
        linked = linked_input(room.set_of(0))
        self._targets = None if linked is None else room.stack(linked)
        self._calls = Calls(one, room.layout.sets, device, None if linked is None else self._link)
        self._trees: list[Node] = []

    def open(self, eager: str | None) -> Message:
        """Make the calls ready and tell where their outputs lie; CannotBeTimedError. eager: as in `Calls.prepare`."""
        calls = self._calls
        calls.prepare(eager)
        leaves = self._leaves()
        tree = self._trees[0]
        if any(other != tree for other in self._trees):
            raise CannotBeTimedError("calls on inputs of one shape return different trees")
        first = leaves[:len(leaves) // calls.count]
        return {
            "tree": tree, "calls": calls.count, "blocks": self._blocks(leaves),
            "addresses": [leaf.data_ptr() for leaf in leaves],
            "leaves": [{"shape": list(leaf.shape), "stride": list(leaf.stride()), "dtype": dtype_name(leaf.dtype)}
                       for leaf in first],
            "not_captured": calls.not_captured}

    def read_eager(self) -> Message:
        """`eager_s`: median seconds of a call by itself, launch included, by this process's clock."""
        return {"eager_s": self._launched(self._one)}

    def read(self) -> Message:
        """The runner's readings, seconds a call, while nobody else is at work.

        `own_s`: a call that waits for none; `linked_s`: with its link; `eager_s`: by itself, launch included;
        `eager_link_s`: what a link adds to calls that are launched one by one.
        """
        eager_s, linked_s = self._launched(self._one), self._launched(self._one_linked)
        readings = Readings(self._device)
        return {"own_s": self._own_s(readings), "linked_s": readings.taken_s(self._calls) / self._calls.count,
                "eager_s": eager_s, "eager_link_s": max(0.0, linked_s - eager_s)}

    def _own_s(self, readings: "Readings") -> float:
        """Seconds a call that waits for none: of some calls less a quarter of them, as what any graph takes cancels."""
        count = min(READ_CALLS, self._room.layout.sets)
        taken = []
        for part in (count, count // 4):
            calls = Calls(self._one, part, self._device)
            if part:
                calls.prepare(self._calls.not_captured)
            taken.append(readings.taken_s(calls) if part else 0.0)
        return max(0.0, taken[0] - taken[1]) / (count - count // 4)

    def serve(self) -> Message:
        """Run sections until the bell ends them."""
        return {"sections": self._bell.serve(self._section)}

    def _section(self) -> list[int]:
        self._calls.run()
        if self._calls.not_captured is None:
            return []
        return [leaf.data_ptr() for leaf in self._leaves()]

    def _link(self, output: Any, index: int) -> None:
        leaf = first_float(output)
        if leaf is not None and self._targets is not None:
            add_link(self._targets[index], leaf, self._room.layout.narrow)

    def _one_linked(self, index: int) -> None:
        self._link(self._one(index), index + 1)

    def _launched(self, call: Callable[[int], Any]) -> float:
        """Median seconds of EAGER_CALLS calls, each until the device is done."""
        seconds = []
        with torch.inference_mode():
            for index in range(max(1, min(EAGER_CALLS, self._room.layout.sets - 1))):
                started = time.perf_counter()
                call(index)
                torch.cuda.synchronize(self._device)
                seconds.append(time.perf_counter() - started)
        return median(seconds)

    def _leaves(self) -> list[torch.Tensor]:
        """Tensors of all outputs, call by call."""
        found: list[torch.Tensor] = []
        self._trees = []
        for output in self._calls.outputs:
            leaves: list[torch.Tensor] = []
            self._trees.append(describe(output, leaves))
            found += leaves
        return found

    def _blocks(self, leaves: list[torch.Tensor]) -> list[list[Any]]:
        places = (leaf.data_ptr() for leaf in leaves if leaf.numel())
        try:
            return export_blocks(places, self._room.span(), self._device)
        except DriverError as error:
            raise CannotBeTimedError(f"outputs lie in memory that no other process can open ({error})") from error


class Readings:
    """Times of calls by this process's clock, the L2 cache emptied before each reading, launching left out."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flushed = torch.zeros(FLUSH_BYTES // 4, dtype=torch.int32, device=device)
        nothing = capture(device, lambda: torch._foreach_zero_([self._flushed[:1]]))
        self._launch_s = median(self._taken_s(nothing.replay) for _ in range(OWN_READINGS))

    def taken_s(self, calls: Calls) -> float:
        """Median of OWN_READINGS, seconds of all calls."""
        readings = []
        for _ in range(OWN_READINGS):
            self._flushed.fill_(1)
            torch.cuda.synchronize(self._device)
            readings.append(self._taken_s(calls.run))
        return max(0.0, median(readings) - self._launch_s)

    def _taken_s(self, work: Callable[[], None]) -> float:
        started = time.perf_counter()
        work()
        torch.cuda.synchronize(self._device)
        return time.perf_counter() - started
