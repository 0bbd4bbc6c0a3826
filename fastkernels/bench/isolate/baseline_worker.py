"""The trusted process: builds the baseline, draws weights and inputs, judges outputs and times the baseline."""

import hashlib
import importlib
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import (
    CallOutcome,
    Draw,
    Finding,
    Judge,
    check_task,
    make_inputs,
    merge,
    plan_draws,
    randomise_weights,
)
from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.build import build, held_by, state_of
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.service import Service, private_copy
from fastkernels.bench.isolate.slots import Slot
from fastkernels.bench.isolate.tree import rebuild
from fastkernels.bench.timing import describe_environment
from fastkernels.bench.timing.peaks import measure_peaks
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op


@dataclass(frozen=True)
class Own:
    """What the baseline works on outside of timed calls, and where timed calls have it."""

    weights: dict[str, torch.Tensor]
    """Private data of each parameter and buffer."""
    sets: list[dict[str, Any]]
    """Private timing sets."""
    views: dict[str, torch.Tensor]
    """Tensors in memory that the candidate sees too, `weight/NAME` and `set0/NAME`."""


class BaselineService(Service):
    """Answers the supervisor's requests; what it knows of expected values never leaves this process."""

    def __init__(self, device: torch.device, arenas: list[Arena]) -> None:
        super().__init__(device, arenas)
        self._draws: list[Draw] = []
        self._before: dict[str, Any] = {}
        self._slots: list[Slot] = []
        self._findings: list[Finding] = []
        self._module: nn.Module | None = None
        self._written: set[str] = set()
        self._own: Own | None = None
        self._judge: Judge | None = None
        self._native = False

    def on_hello(self, message: Message) -> Message:
        """Take the choice of the baseline's path."""
        self._native = message["baseline"] == "native"
        return {}

    def on_prepare(self, message: Message) -> Message:
        """Build the baseline with random weights, check the task, plan the draws and share the weights."""
        self.free()
        self._scenario = Scenario.from_dict(message["scenario"])
        module = self._module = self._build(message["seed"])
        finding = check_task(module, self._scenario, self.device)
        if finding is not None:
            return {"finding": _plain(finding)}
        self._judge = Judge(module, self._scenario)
        self._draws = plan_draws(self._scenario, message["seed"], self.device.type)
        slots = self.weights.write(state_of(module))
        self.outputs.reserve(1)
        return {"draws": len(self._draws), "provider": self._provider(), "weights": [slot.to_dict() for slot in slots],
                "weight_bytes": sum(slot.extent_bytes for slot in slots),
                "arenas": {"weights": self.weights.reference()}}

    def on_draw(self, message: Message) -> Message:
        """Draw inputs and lay them into the arena: a planned draw, or a fresh one of the listed shape."""
        index = message.get("index")
        self._draw = self._fresh_draw() if index is None else self._draws[index]
        keep = bool(message.get("keep"))
        more = keep and self.sets
        self._before = _rolled(self.sets) if more else make_inputs(self._scenario, self._draw, self.device)
        tensors = {name: value for name, value in self._before.items() if isinstance(value, torch.Tensor)}
        self._slots = self.inputs.write(tensors)
        slots = {slot.name: slot.to_dict() for slot in self._slots}
        if keep:
            self.sets.append({name: private_copy(value) for name, value in self._before.items()})
        self.synchronize()
        return {"inputs": [slots.get(name) or {"name": name, "value": value} for name, value in self._before.items()],
                "arenas": {"inputs": self.inputs.reference(), "outputs": self.outputs.reference()},
                "bytes": sum(slot.extent_bytes for slot in self._slots)}

    def on_reserve(self, message: Message) -> Message:
        """Make room for outputs."""
        self.outputs.reserve(message["bytes"])
        return {"arenas": {"outputs": self.outputs.reference()}}

    def on_judge(self, message: Message) -> Message:
        """Judge the candidate's answer to a call on the last draw."""
        try:
            outcome = self._outcome(message["answer"])
        except (ProtocolError, KeyError, TypeError, ValueError) as error:
            return {"finding": {"verdict": str(Verdict.NO_RESULT), "correctness": None,
                                "message": f"the answer to the call is none: {error}"[:300]}}
        assert self._judge is not None
        self._findings.append(self._judge.judge(self._before, outcome, self._draw))
        return {"finding": _plain(merge(self._findings))}

    def on_work(self, message: Message) -> Message:
        """Least bytes and operations of a call on the first timing set, and the dtype that bounds its rate."""
        del message
        assert isinstance(self._module, Op)
        inputs = {name: private_copy(value) for name, value in self.sets[0].items()}
        with torch.inference_mode():
            outputs: list[torch.Tensor] = []
            _tensors(self._module(**inputs), outputs)
            self._written = {name for name, value in inputs.items() if not _equal(value, self.sets[0][name])}
            self._written |= set(self._module.donates(inputs))
            work = self._module.work(inputs, tuple(outputs))
        tensors = [t for t in (*inputs.values(), *outputs) if isinstance(t, torch.Tensor)]
        floats = [t.dtype for t in tensors if t.is_floating_point()]
        dtype = str(floats[0] if floats else torch.float32).removeprefix("torch.")
        return {"bytes": work.bytes, "flops": work.flops, "dtype": dtype}

    def on_share(self, message: Message) -> Message:
        """Lay weights and the float inputs of the timing sets where both processes work on them in timed calls.

        Integers stay private: no index that the baseline follows may lie where the candidate can write.
        """
        del message
        assert self._module is not None
        held = held_by(self._module)
        tensors = {f"weight/{name}": tensor.detach() for name, tensor in held.items()}
        tensors |= {f"set{i}/{name}": value for i, inputs in enumerate(self.sets) for name, value in inputs.items()
                    if isinstance(value, torch.Tensor) and value.is_floating_point() and 0 not in value.stride()}
        slots = self.shared.write(tensors)
        views = {slot.name: self.shared.tensor(slot) for slot in slots}
        self._own = Own({name: tensor.data for name, tensor in held.items()}, self.sets, views)
        for name, tensor in held.items():
            tensor.data = views[f"weight/{name}"]
        self.sets = [{name: views.get(f"set{i}/{name}", value) for name, value in inputs.items()}
                     for i, inputs in enumerate(self.sets)]
        self.synchronize()
        return {"slots": [slot.to_dict() for slot in slots], "arenas": {"shared": self.shared.reference()}}

    def on_unshare(self, message: Message) -> Message:
        """Take the private weights and inputs back; a finding where what was shared is no longer what it was."""
        del message
        assert self._own is not None
        assert self._module is not None
        self.synchronize()
        own, self.sets, self._call = self._own, self._own.sets, None
        for name, tensor in held_by(self._module).items():
            tensor.data = own.weights[name]
        weights = self._changed_weights()
        inputs = sorted({name for i, inputs in enumerate(own.sets) for name, value in inputs.items()
                         if name not in self._written and not _equal(own.views.get(f"set{i}/{name}", value), value)})
        damaged = self.shared.damaged()
        if not (weights or inputs or damaged):
            return {}
        by_inputs = Verdict.MUTATED_INPUT if inputs else Verdict.OUT_OF_BOUNDS_WRITE
        verdict = Verdict.MUTATED_WEIGHT if weights else by_inputs
        what = ", ".join(weights or inputs) or f"memory beside {damaged}"
        return {"finding": {"verdict": str(verdict), "message": f"timed calls changed {what}", "correctness": None}}

    def on_environment(self, message: Message) -> Message:
        """Machine, device and versions."""
        del message
        return {"environment": describe_environment(self.device.type)}

    def on_peaks(self, message: Message) -> Message:
        """Bandwidth and operations that this device reaches; measured at the first use on a machine."""
        del message
        return {"peaks": measure_peaks(self.device).to_dict()}

    def free(self) -> None:
        """Free what the scenario before has left."""
        self._draws, self._before, self._slots, self._findings = [], {}, [], []
        self._judge = self._module = self._own = None
        for arena in (self.weights, self.inputs, self.outputs, self.shared):
            arena.release()
        super().free()

    def bare_call(self) -> Callable[..., object]:
        """The baseline's module."""
        assert self._module is not None
        return self._module

    def _build(self, seed: int) -> nn.Module:
        module = importlib.import_module(f"fastkernels.tasks.baseline.{self._scenario.relative_module}")
        built = build(getattr(module, self._scenario.class_name), self._scenario, self.device)
        digest = hashlib.sha256(f"{seed} {self._scenario.shape_key}".encode()).digest()
        randomise_weights(built, int.from_bytes(digest[:4], "big"))
        if self._native:
            for part in built.modules():
                if isinstance(part, Op):
                    part.__dict__["forward"] = part.forward_native
        return built

    def _provider(self) -> str:
        if self._native or not isinstance(self._module, Op):
            return "native"
        return self._module.provider_on(self.device)

    def _fresh_draw(self) -> Draw:
        tokens = self._scenario.tokens
        return Draw(name=f"fresh@t{tokens}", tokens=tokens, seed=secrets.randbits(63), hard="normal")

    def _leaves(self, answer: Message) -> list[torch.Tensor]:
        """The tensors that the candidate says its outputs are."""
        if answer["slots"] is None:
            return [_unseen(shape) for shape in answer["shapes"]]
        return [self.outputs.tensor(Slot.from_dict(data)) for data in answer["slots"]]

    def _outcome(self, answer: Message) -> CallOutcome:
        """Read the candidate's answer with distrust: every slot and node is checked."""
        leaves = self._leaves(answer)
        used: set[int] = set()
        outputs = rebuild(answer["tree"], leaves, used)
        if len(used) != len(leaves):
            raise ProtocolError("a tree that lacks some of the outputs")
        damaged = self.inputs.damaged()
        after = {slot.name: self.inputs.tensor(slot) for slot in self._slots}
        inputs_after = {name: after.get(name, value) for name, value in self._before.items()}
        weights_changed = [*answer["weights_changed"], *self._changed_weights()]
        return CallOutcome(outputs=outputs, inputs_after=inputs_after, aliases=answer["aliases"],
                           weights_changed=weights_changed, structure=answer["tree"],
                           canaries=[] if damaged is None else [damaged])


    def _changed_weights(self) -> list[str]:
        """Weights that the candidate has shared memory for and that differ from the private ones."""
        if self._own is None:
            return []
        views = self._own.views
        return [name for name, value in self._own.weights.items() if not _equal(views[f"weight/{name}"], value)]


def _equal(a: Any, b: Any) -> bool:
    """True for other values than tensors, and for tensors of the same bits (a NaN equals itself)."""
    return not isinstance(a, torch.Tensor) or torch.equal(_bits(a), _bits(b))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _rolled(sets: list[dict[str, Any]]) -> dict[str, Any]:
    """Inputs for one more timing set: the first set's, every float tensor rotated by a few elements."""
    return {name: value.flatten().roll(len(sets)).view(value.shape)
            if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in sets[0].items()}


def _unseen(data: Any) -> torch.Tensor:
    """A tensor without contents, for an output too large to be right."""
    shape, dtype = data
    slot = Slot.from_dict({"name": "output", "offset": 0, "shape": shape, "stride": [0] * len(shape), "dtype": dtype})
    return torch.empty(slot.shape, dtype=slot.torch_dtype, device="meta")


def _plain(finding: Finding) -> dict[str, Any]:
    correctness = None if finding.correctness is None else asdict(finding.correctness)
    return {"verdict": str(finding.verdict), "message": finding.message, "correctness": correctness}


def _tensors(value: Any, found: list[torch.Tensor]) -> None:
    """Collect the tensors of a tree of outputs."""
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, tuple | list):
        for item in value:
            _tensors(item, found)
    elif isinstance(value, dict):
        _tensors(list(value.values()), found)
