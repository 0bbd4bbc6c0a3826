"""What both workers have in common: arenas, the dispatch of requests, and timing.

On CUDA calls are timed in sections (`sections/`); what is asked of timing sets and of batches is asked on a CPU alone.
"""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.batch import Called, call_batch
from fastkernels.bench.isolate.files import ARENAS
from fastkernels.bench.isolate.placement import MOVED_BYTES, RandomPlacement
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.sections.bell import Bell
from fastkernels.bench.isolate.sections.room import Layout, Room
from fastkernels.bench.isolate.sections.side import CannotBeTimedError, SectionSide
from fastkernels.bench.isolate.slots import Slot, end_of, plan_slots
from fastkernels.bench.timing.timer import Call
from fastkernels.bench.timing.wall import WallTimer
from fastkernels.manifest import Scenario
from fastkernels.runtime.invoke import prepared
from fastkernels.runtime.parallel import MirroredRank, set_tp_group

BIG_BYTES = 1024 * 1024 * 1024
"""Memory beyond this is given back after each scenario."""


class Service:
    """Answers requests: `{"do": "measure", ...}` goes to `on_measure`."""

    def __init__(self, device: torch.device, arenas: list[Arena]) -> None:
        self.device = device
        self.weights, self.inputs, self.outputs, self.shared = arenas[:ARENAS]
        self.bells: tuple[int, ...] = ()
        """Descriptors of what starts timed sections: a side's own, for the trusted worker that of each side."""
        self.sets: list[dict[str, Any]] = []
        self._timer = WallTimer()
        self._call: Call | None = None
        self._section_side: SectionSide | None = None
        self._placement = RandomPlacement()
        self._group = ExitStack()

    def enter_group(self, scenario: Scenario) -> None:
        """Be one rank of the scenario's TP degree until `free`: modules are built and called as that rank's share."""
        self._group.enter_context(set_tp_group(MirroredRank(scenario.rank, scenario.tp)))

    def handle(self, message: Message) -> Message:
        """Answer one request."""
        answer: Callable[[Message], Message] | None = getattr(self, f"on_{message.get('do')}", None)
        if answer is None:
            raise ProtocolError(f"no request {message.get('do')!r}")
        return answer(message)

    def follow(self, message: Message) -> None:
        """Find the arenas that the message tells of."""
        for name, reference in message.get("arenas", {}).items():
            getattr(self, name).follow(reference)

    def read_inputs(self, message: Message) -> dict[str, Any]:
        """The arguments of forward, tensors in place in the arena."""
        return {data["name"]: data["value"] if "value" in data else self.inputs.tensor(Slot.from_dict(data))
                for data in message["inputs"]}

    def refill(self, index: int, inputs: dict[str, Any]) -> dict[str, Any]:
        """Put new values into the memory of a timing set."""
        kept = self.sets[index]
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                kept[name].copy_(value)
        return kept

    def on_keep(self, message: Message) -> Message:
        """Keep a copy of the inputs in the arena as one more timing set."""
        self.follow(message)
        self.sets.append({name: private_copy(value) for name, value in self.read_inputs(message).items()})
        return {}

    def on_measure(self, message: Message) -> Message:
        """Seconds of each of `calls` calls."""
        calls = message["calls"]
        self._move()

        def measure() -> Message:
            for index in range(min(len(self.sets), calls // 2)):  # touch the new places first
                self.caller()(index)
            return {"samples_s": list(self._timer.measure(self.caller(), calls))}

        return self.timed(measure)

    def _move(self) -> None:
        """Have inputs of this process's own, and temporaries of calls, lie elsewhere from now on."""
        self._placement.renew()
        tensors = [value for inputs in self.sets for value in inputs.values() if isinstance(value, torch.Tensor)]
        if sum(tensor.nbytes for tensor in tensors) <= MOVED_BYTES:
            self.sets = [{name: private_copy(value) for name, value in inputs.items()} for inputs in self.sets]
            self._call = None

    def on_eager(self, message: Message) -> Message:
        """Latencies of `calls` eager calls, seconds."""
        return self.timed(lambda: {"samples_s": list(self._timer.eager(self.caller(), message["calls"]))})

    def on_replay(self, message: Message) -> Message:
        """Run exactly `calls` calls and answer when they are done; the supervisor's clock is the witness."""
        def replay() -> Message:
            self._timer.replay(self.caller(), message["calls"])
            return {}

        return self.timed(replay)

    def on_open_room(self, message: Message) -> Message:
        """Make the calls of timed sections ready; `not_timed` where that cannot be."""
        self.follow(message)
        room = Room(self.shared, Layout.from_dict(message["layout"]))

        def work() -> Message:
            try:
                self._section_side = SectionSide(room, Bell(self.bells[0]), self.section_call(room), self.device)
                return self._section_side.open(message.get("eager"))
            except CannotBeTimedError as error:
                return {"not_timed": str(error)}

        return self.timed(work)

    def on_read_own_clock(self, message: Message) -> Message:
        """What this process's own clock reads of the calls of timed sections; of eager ones alone with `eager`."""
        side = self._section_side
        assert side is not None
        return self.timed(side.read_eager if message.get("eager") else side.read)

    def on_serve(self, message: Message) -> Message:
        """Run timed sections until the bell ends them."""
        del message
        side = self._section_side
        assert side is not None
        return self.timed(side.serve)

    def on_leave_room(self, message: Message) -> Message:
        """Let go of the calls of timed sections, and have the module's own weights back."""
        del message
        self._section_side = None
        self.own_weights()
        return {}

    def section_call(self, room: Room) -> Callable[[int], Any]:
        """Makes call `i` of a timed section, with the copy of the weights that is its turn."""
        callers = self.with_copies(room) if room.layout.copies else [self.bare_call()]
        calls = [prepared(callers[index % len(callers)], room.set_of(index)) for index in range(room.layout.sets)]
        return lambda index: calls[index]()

    def with_copies(self, room: Room) -> list[Callable[..., object]]:
        """The module with each copy of the weights."""
        raise NotImplementedError

    def own_weights(self) -> None:
        """Undo what `with_copies` has done to the module."""

    def on_batch(self, message: Message) -> Message:
        """Call the module once on each of several sets of inputs in the arena and hand every output over."""
        self.follow(message)
        batch = [self.batch_inputs(number, inputs) for number, inputs in enumerate(message["batch"])]

        def work() -> Message:
            called = self.call_batch(batch, message)
            slots = self.outputs.place(called.leaves)
            if slots is None:
                self.room(end_of(plan_slots(called.leaves, contiguous=True)))
                slots = self.outputs.place(called.leaves)
            return {"trees": called.trees, "slots": None if slots is None else [slot.to_dict() for slot in slots]}

        return self.timed(work)

    def call_batch(self, batch: list[dict[str, Any]], message: Message) -> Called:
        """Make the calls of a batch."""
        del message
        return call_batch(self.bare_call(), batch)

    def batch_inputs(self, number: int, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of one call of a batch."""
        del number
        return self.read_inputs({"inputs": inputs})

    def room(self, size: int) -> None:
        """Make room for `size` bytes of outputs; only the trusted side can."""

    def caller(self) -> Call:
        """What the timer calls: call i works on set i, rotated."""
        if self._call is None:
            calls = [prepared(self.bare_call(), inputs) for inputs in self.sets]
            self._call = lambda i: calls[i % len(calls)]()
        return self._call

    def bare_call(self) -> Callable[..., object]:
        """The module, to be called with keyword arguments."""
        raise NotImplementedError

    def timed(self, work: Callable[[], Message]) -> Message:
        """Run one timing request in inference mode and add how long it ran."""
        started = time.perf_counter()
        with torch.inference_mode():
            answer = work()
        return {**answer, "ran_s": time.perf_counter() - started}

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Let go of what timing the scenario took, and of the caching allocator's memory where that is much."""
        self.sets, self._call, self._section_side = [], None, None
        self._placement.clear()
        self._group.close()
        gc.collect()
        gc.freeze()  # what is left stays for good; the next collection passes over it (30 ms with torch and Triton)
        if self.device.type == "cuda" and torch.cuda.memory_reserved(self.device) > BIG_BYTES:
            torch.cuda.empty_cache()


def private_copy(value: Any) -> Any:
    """A copy of a tensor in memory of its own, strides kept; other values as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    copy = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return copy.copy_(value)
