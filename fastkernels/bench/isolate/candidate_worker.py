"""The candidate's process: imports it through the overlay, builds it, calls it and times it."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.batch import call_batch
from fastkernels.bench.isolate.bits import same_bits, same_sample
from fastkernels.bench.isolate.build import build, everything_of, state_of
from fastkernels.bench.isolate.failure import failure
from fastkernels.bench.isolate.gates import GateCalls
from fastkernels.bench.isolate.guarded import GuardedAllocations
from fastkernels.bench.isolate.late import arrive_late
from fastkernels.bench.isolate.memory import limit_data
from fastkernels.bench.isolate.passthrough import PassthroughGuard
from fastkernels.bench.isolate.poison import Poison
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.ran_through import CallTrace
from fastkernels.bench.isolate.rank_peers import Peers
from fastkernels.bench.isolate.reload import Columns, copy_columns
from fastkernels.bench.isolate.sections.copies import can_be_moved, modules_on, moved_calls
from fastkernels.bench.isolate.sections.room import Room
from fastkernels.bench.isolate.service import Service
from fastkernels.bench.isolate.slots import Slot, dtype_name, end_of, plan_slots
from fastkernels.bench.isolate.spans import shared_memory
from fastkernels.bench.isolate.tree import describe
from fastkernels.bench.timing.capture import NotCapturableError
from fastkernels.manifest import Scenario
from fastkernels.registry import Overlay
from fastkernels.results import Gate, Verdict
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.parallel import ProcessGroup, set_tp_group
from fastkernels.runtime.weights import finish_weights

CLOCKED = ("batch", "replay", "serve")
"""Requests that the supervisor's clock times. What a candidate has loaded is looked through after the next one then: it
takes 0.1 to 0.5 ms."""

IN_PROCESS = ("TORCHINDUCTOR_COMPILE_THREADS", "1")
"""Has torch.compile compile in the process that calls. By default its first call starts a pool of as many processes as
there are cores, each of which imports torch beside whatever comes next, the baseline's timing too."""

COMPARED_BYTES = 64 * 1024 * 1024
"""Weights up to this size, and all on CUDA, are compared after every call; larger ones on a CPU after the first and the
last, a sample of SAMPLED_BYTES of each after the others."""

SAMPLED_BYTES = 256 * 1024


class CandidateService(Service):
    """Answers the supervisor's requests with what the candidate does."""

    def __init__(self, device: torch.device, arenas: list[Arena]) -> None:
        super().__init__(device, arenas)
        self._overlay: Overlay | None = None
        self._directory: Path | None = None
        self._guard: PassthroughGuard | None = None
        self._module: nn.Module | None = None
        self._kept: dict[str, torch.Tensor] = {}
        self._previous: list[torch.Tensor] = []
        self._leaves: list[torch.Tensor] = []
        self._calls = 0
        self._queued_s = 0.0
        self._gates: GateCalls | None = None
        self._peers = Peers()
        self._poison = Poison(device)
        self._ranks: ProcessGroup | None = None
        self._built: Message = {}
        self._moved: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_ready(self, message: Message) -> Message:
        """Answer once the process is up; no candidate is known by then."""
        del message
        self._poison.prepare()
        return {}

    def on_hello(self, message: Message) -> Message:
        """Take up the limit of memory and lay the candidates over the baseline; they are imported with `import`."""
        limit = message["memory_limit_bytes"]
        if limit is not None and self.device.type == "cpu":
            limit_data(limit)
        os.environ.setdefault(*IN_PROCESS)
        directory = message["candidates"]
        self._directory = None if directory is None else Path(directory)
        self._overlay = Overlay(self._directory)
        self._overlay.install()
        if directory is not None and not message.get("allow_passthrough"):
            self._guard = PassthroughGuard(Path(directory)).start()
        return {}

    def on_meet(self, message: Message) -> Message:
        """Rank 0 of several: open the place where ranks meet."""
        return {"port": self._peers.open(message["size"])}

    def on_join(self, message: Message) -> Message:
        """Be one rank of several; answers once all are there."""
        self._ranks = self._peers.join(message["rank"], message["size"], message["port"], self.device)
        return {}

    def enter_group(self, scenario: Scenario) -> None:
        """Be the rank that `on_join` has made it, else one that stands alone."""
        if self._ranks is None:
            super().enter_group(scenario)
        else:
            self._group.enter_context(set_tp_group(self._ranks))

    def handle(self, message: Message) -> Message:
        """Answer one request; with PASSTHROUGH where the candidate has got at foreign code, also in a clocked one."""
        reply = super().handle(message)
        return reply if self._guard is None or message["do"] in CLOCKED else self._guard.judged(reply)

    def on_import(self, message: Message) -> Message:
        """Import the operator's module."""
        assert self._overlay is not None
        try:
            module = self._overlay.module(message["module"])
        except Exception as error:
            return failure(error, Verdict.IMPORT_ERROR, "import")
        if not isinstance(getattr(module, message["class_name"], None), type):
            return {"verdict": str(Verdict.MISSING_CLASS), "message": f"no class {message['class_name']} after import"}
        return {}

    def on_build(self, message: Message) -> Message:
        """Build the module and load the weights from the arena."""
        assert self._overlay is not None
        self.free()
        self.follow(message)
        self._built = message
        scenario = Scenario.from_dict(message["scenario"])
        self.enter_group(scenario)
        cls = getattr(self._overlay.module(scenario.relative_module), scenario.class_name)
        try:
            self._module = build(cls, scenario, self.device)
        except Exception as error:
            return self._failed(error, Verdict.INIT_ERROR, "__init__")
        slots = [Slot.from_dict(data) for data in message["weights"]]
        difference = _difference({slot.name: slot for slot in slots}, state_of(self._module))
        if difference:
            return {"verdict": str(Verdict.WRONG_WEIGHTS), "message": difference}
        try:
            self._load(slots)
        except Exception as error:
            return self._failed(error, Verdict.INIT_ERROR, "loading weights")
        return {}

    def on_call(self, message: Message) -> Message:
        """Call forward on the inputs in the arena, or on those of a timing set that the arena's are copied into."""
        address = self.inputs.address
        self.follow(message)
        if self.inputs.address != address:
            self._previous = []  # their addresses may have gone with the old memory
        inputs = self.read_inputs(message)
        timed = message.get("set")
        self._calls += 1
        whole = (self._calls == 1 or message.get("last", False) or self.device.type == "cuda"
                 or self._kept_bytes() <= COMPARED_BYTES)
        guard = GuardedAllocations(self.device) if message.get("guarded") else None
        started = time.perf_counter()
        try:
            given = arrive_late(inputs, self.device, self._queued_s) if message.get("in_order") else {}
            arena_inputs, inputs = inputs, inputs if timed is None else self.refill(timed, inputs)
            self._poison.before_call([leaf.nbytes for leaf in self._leaves])
            called = time.perf_counter()
            with guard or nullcontext(), CallTrace() if message.get("trace") else nullcontext() as trace:
                outputs = self.call(inputs)
            self._queued_s = time.perf_counter() - called
            ran_s = time.perf_counter() - started
            report = self._report(inputs, outputs)  # the copies stand behind the call: what is not joined misses them
            started = time.perf_counter()
            self.synchronize()
            del given
        except Exception as error:
            found = self._failed(error, Verdict.FORWARD_ERROR, "forward")
            return found if guard is None else {"not_guarded": found["message"]}
        if guard is not None:
            report["canaries"] = guard.damaged(self._leaves)
        ran_s += time.perf_counter() - started
        if timed is not None:
            for name, tensor in arena_inputs.items():
                if isinstance(tensor, torch.Tensor):
                    tensor.copy_(inputs[name])
        through = {} if trace is None else {"ran_through": trace.packages(self._directory)}
        return {**report, **through, "weights_changed": self._changed_weights(whole), "ran_s": ran_s}

    def on_sweep(self, message: Message) -> Message:
        """Call forward once on each of several sets of inputs, of different token counts, and hand all outputs over."""
        self.follow(message)
        self._previous, counts = [], iter(message["counts"])
        batch = [self.read_inputs({"inputs": inputs}) for inputs in message["batch"]]
        started, count = time.perf_counter(), 0

        def one(**arguments: Any) -> Any:
            nonlocal count
            count = next(counts)
            self._poison.before_call(())
            return self.bare_call()(**arguments)

        try:
            called = call_batch(one, batch)
            slots = self.outputs.place(called.leaves)
            self.synchronize()
        except Exception as error:
            return self._failed(error, Verdict.FORWARD_ERROR, f"forward, at {count} tokens in a sweep of token counts,")
        return {"trees": called.trees, "slots": None if slots is None else [slot.to_dict() for slot in slots],
                "weights_changed": self._changed_weights(), "ran_s": time.perf_counter() - started}

    def on_gate(self, message: Message) -> Message:
        """Call forward as a deployment gate does, on the inputs in the arena; or only capture a CUDA graph for it."""
        assert self._module is not None
        self.follow(message)
        inputs, self._previous = self.read_inputs(message), []
        self._gates = self._gates or GateCalls(self._module, self.device)
        try:
            if message.get("capture"):
                self._gates.capture(inputs)
                return {}
            outputs = self._gates.call(Gate(message["gate"]), inputs)
        except Exception as error:
            found = self._failed(error, Verdict.FORWARD_ERROR, "forward")
            reason = str(error) if isinstance(error, NotCapturableError) else found["message"]
            return {"gate_failed": reason, "poisoned": found.get("poisoned", False)}
        report = self._report(inputs, outputs)
        self.synchronize()
        return {**report, "weights_changed": self._changed_weights()}

    def on_collect(self, message: Message) -> Message:
        """Copy the outputs of the last call into the arena, which has grown since."""
        self.follow(message)
        slots = self._place()
        self.synchronize()
        return {"slots": slots}

    def on_batch(self, message: Message) -> Message:
        """As the trusted worker does; the outputs of earlier calls are no longer compared with later ones."""
        self._previous = []
        return super().on_batch(message)

    def on_reload(self, message: Message) -> Message:
        """Load other weights into the module where it still has what a checkpoint holds; else build it anew."""
        self.follow(message)
        assert self._module is not None
        slots = [Slot.from_dict(data) for data in message["weights"]]
        if _difference({slot.name: slot for slot in slots}, state_of(self._module)):
            return self.on_build(message)
        try:
            self._load(slots, message["columns"])
        except Exception as error:
            return self._failed(error, Verdict.INIT_ERROR, "loading other weights")
        return {}

    def with_copies(self, room: Room) -> list[Callable[..., object]]:
        """The module with each copy of the weights: its parameters moved there, or modules of their own."""
        assert self._module is not None
        copies = [room.weights_of(copy) for copy in range(room.layout.copies)]
        if can_be_moved(self._module, copies[0]):
            self._moved, calls = moved_calls(self._module, copies)
            return calls
        assert self._overlay is not None
        scenario = Scenario.from_dict(self._built["scenario"])
        cls = getattr(self._overlay.module(scenario.relative_module), scenario.class_name)
        given = {slot.name: self.weights.tensor(slot) for slot in map(Slot.from_dict, self._built["weights"])}
        return modules_on(lambda: build(cls, scenario, self.device), [{**given, **copy} for copy in copies])

    def own_weights(self) -> None:
        """Undo what `with_copies` has done to the module."""
        for tensor, own in self._moved:
            tensor.data = own
        self._moved = []

    def free(self) -> None:
        """Free what the scenario before has left."""
        self._moved = []
        self._module, self._kept, self._previous, self._leaves, self._calls = None, {}, [], [], 0
        self._gates = None
        super().free()

    def call(self, inputs: dict[str, Any]) -> Any:
        """One call of forward."""
        assert self._module is not None
        with torch.inference_mode():
            return invoke(self._module, inputs)

    def timed(self, work: Callable[[], Message]) -> Message:
        """Timing of the candidate: what it raises there is its failure too."""
        try:
            return super().timed(work)
        except Exception as error:
            return self._failed(error, Verdict.FORWARD_ERROR, "forward, in a timed call,")

    def bare_call(self) -> Callable[..., object]:
        """The candidate's module."""
        assert self._module is not None
        return self._module

    def _load(self, slots: list[Slot], columns: Columns | None = None) -> None:
        """Load weights from the arena; of parameters that are what they were given, only the columns that changed."""
        assert self._module is not None
        state = state_of(self._module)
        given = {slot.name: self.weights.tensor(slot) for slot in slots}
        for name, tensor in given.items():
            kept = self._kept.get(name)
            as_given = columns and kept is not None and kept.data_ptr() == tensor.data_ptr()
            if not as_given or columns is None:
                with torch.no_grad():
                    state[name].copy_(tensor)
            elif name in columns:
                copy_columns(state[name], tensor, columns[name])
        finish_weights(self._module)
        self.synchronize()
        for name, tensor in everything_of(self._module).items():
            # The arena serves as the copy to compare with, but for what no checkpoint holds or the hook has repacked.
            unchanged = name in given and same_bits(given[name], tensor)
            self._kept[name] = given[name] if unchanged else tensor.clone()

    def _report(self, inputs: dict[str, Any], outputs: Any) -> Message:
        self._leaves = []
        tree = describe(outputs, self._leaves)
        assert self._module is not None
        aliases = shared_memory(self._leaves, inputs, everything_of(self._module), self._previous)
        self._previous = self._leaves
        return {"tree": tree, "aliases": aliases, "slots": self._place(), **self._sizes()}

    def _sizes(self) -> Message:
        """What the outputs would take in the arena, and their shapes for where they do not go there."""
        slots = plan_slots({str(i): tensor for i, tensor in enumerate(self._leaves)}, contiguous=True)
        return {"bytes": end_of(slots), "shapes": [[list(slot.shape), slot.dtype] for slot in slots]}

    def _place(self) -> list[dict[str, Any]] | None:
        slots = self.outputs.place({str(i): tensor for i, tensor in enumerate(self._leaves)})
        return None if slots is None else [slot.to_dict() for slot in slots]

    def _kept_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._kept.values())

    def _changed_weights(self, whole: bool = True) -> list[str]:
        assert self._module is not None
        now = everything_of(self._module)
        gone = [name for name in self._kept if name not in now or now[name].shape != self._kept[name].shape]
        same_shape = [name for name in self._kept if name not in gone]
        same = same_bits if whole else partial(same_sample, size=SAMPLED_BYTES)
        return gone + [name for name in same_shape if not same(self._kept[name], now[name])]

    def _failed(self, error: Exception, verdict: Verdict, phase: str) -> Message:
        found = failure(error, verdict, phase)
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError:  # the context is lost; only a new process gets another
                found["poisoned"] = True
        if found["verdict"] == Verdict.OUT_OF_MEMORY:
            found["poisoned"] = True
        gc.collect()
        return found


def _difference(expected: dict[str, Slot], found: dict[str, torch.Tensor]) -> str:
    """One line on what the candidate's state dict lacks, has too much or has otherwise; empty where it fits."""
    missing, surplus = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or surplus:
        words = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(surplus)} besides"] * bool(surplus)
        return f"the state dict {' and '.join(words)}"
    for name, slot in expected.items():
        got = (tuple(found[name].shape), dtype_name(found[name].dtype))
        if got != (slot.shape, slot.dtype):
            return f"{name}: {got[1]} {list(got[0])} where the baseline has {slot.dtype} {list(slot.shape)}"
    return ""
