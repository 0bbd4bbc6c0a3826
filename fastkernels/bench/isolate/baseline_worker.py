"""The trusted process: builds the baseline, draws weights and inputs, judges outputs and times the baseline."""

import hashlib
import importlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import (
    CallOutcome,
    Draw,
    Finding,
    Judge,
    check_task,
    clear_choices,
    donated,
    make_inputs,
    merge,
    plan_draws,
    randomise_weights,
)
from fastkernels.bench.grade.draws import plan_few_draws
from fastkernels.bench.grade.edges import FAR
from fastkernels.bench.isolate.answers import read_answer
from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.batch import Called, hand_over
from fastkernels.bench.isolate.bits import rolled, same_bits
from fastkernels.bench.isolate.build import build, state_of
from fastkernels.bench.isolate.dump import write_call
from fastkernels.bench.isolate.far import Far, far_pages
from fastkernels.bench.isolate.files import ARENAS
from fastkernels.bench.isolate.gates import as_slices, contiguous_ones, has_slices
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.providers.check import check_stand_in
from fastkernels.bench.isolate.providers.stand_in import NoStandInError, Provider, StandIn, open_provider
from fastkernels.bench.isolate.reload import WHOLE_BYTES, copy_columns, move_all, move_columns, repacks
from fastkernels.bench.isolate.sections.trusted import SIDES, TrustedSections
from fastkernels.bench.isolate.service import Service, private_copy
from fastkernels.bench.isolate.slots import Slot
from fastkernels.bench.isolate.sweep import Sweep, no_answer
from fastkernels.bench.isolate.sweep_calls import one_thread
from fastkernels.bench.isolate.sweep_plan import Planner
from fastkernels.bench.isolate.work import measure_work
from fastkernels.bench.timing import describe_environment
from fastkernels.bench.timing.known_work import KnownWork
from fastkernels.bench.timing.peaks import measure_peaks
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op
from fastkernels.runtime.weights import finish_weights


class BaselineService(Service):
    """Answers the supervisor's requests; what it knows of expected values never leaves this process."""

    def __init__(self, device: torch.device, arenas: list[Arena]) -> None:
        super().__init__(device, arenas)
        self._draws: list[Draw] = []
        self._before: dict[str, Any] = {}
        self._slots: list[Slot] = []
        self._weight_slots: list[Slot] = []
        self._batch: list[dict[str, Any]] = []
        self._far: Far | None = None
        self._called: Called | None = None
        self._timed_seed: int | None = None
        self._findings: list[Finding] = []
        self._module: nn.Module | None = None
        self._written: set[str] = set()
        self._judge: Judge | None = None
        self._sweep: Sweep | None = None
        self._provider: Provider | None = None
        self._stand_in: StandIn | None = None
        self._rooms = dict(zip(reversed(SIDES), arenas[ARENAS - 1::ARENAS], strict=False))
        self._sections: TrustedSections | None = None
        self._known_work = KnownWork()

    def on_hello(self, message: Message) -> Message:
        """Take the choice of what is timed as the baseline."""
        self._provider = open_provider(message["baseline"], self.device)
        return {}

    def on_prepare(self, message: Message) -> Message:
        """Build the baseline with random weights, check the task, plan draws (`few`: for a variant), share weights."""
        self.free()
        self._scenario = Scenario.from_dict(message["scenario"])
        self.enter_group(self._scenario)
        module = self._module = self._build(message["seed"])
        assert self._provider is not None
        try:
            stand_in = self._stand_in = self._provider.stand_in(module, self._scenario)
        except NoStandInError as error:
            return {"finding": _plain(Finding(Verdict.TASK_INVALID, str(error)))}
        finding = check_task(module, self._scenario, self.device)
        if finding is not None:
            return {"finding": _plain(finding)}
        self._judge = Judge(module, self._scenario)
        plan = plan_few_draws if message.get("few") else plan_draws
        self._draws = plan(self._scenario, message["seed"], self.device.type)
        if not stand_in.is_baseline:
            self._draw = self._draws[0]
            finding = check_stand_in(stand_in, module, self._judge, self._make_inputs(), self._draw)
            if finding is not None:
                return {"finding": _plain(finding), "provider": stand_in.provider}
        slots = self._weight_slots = self.weights.write(state_of(module))
        self.outputs.reserve(1)
        return {"draws": len(self._draws), "provider": stand_in.provider, "weights": [slot.to_dict() for slot in slots],
                "weight_bytes": sum(slot.extent_bytes for slot in slots),
                "arenas": {"weights": self.weights.reference()}}

    def on_draw(self, message: Message) -> Message:
        """Draw inputs and lay them into the arena: a planned draw, or a fresh one of the listed shape."""
        index = message.get("index")
        self._draw = self._fresh_draw() if index is None else self._draws[index]
        keep = bool(message.get("keep"))
        more = keep and self.sets
        if keep and not more:
            self._timed_seed = self._draw.seed
        self._before = _moved_along(self.sets[0], len(self.sets)) if more else self._make_inputs()
        names = self._module.strided_inputs(self._before) if isinstance(self._module, Op) else ()
        names = contiguous_ones(self._before, names)
        if message.get("strided"):
            self._before = as_slices(self._before, names)
        tensors = {name: value for name, value in self._before.items() if isinstance(value, torch.Tensor)}
        self._far = far_pages(tensors, self._draw.seed) if self._draw.hard == FAR else None
        if self._far is None:
            self._slots = self.inputs.write(tensors)
        else:
            parts = {name: (self._far.pages, value) for name, value in tensors.items() if name.endswith("_cache")}
            self._slots = self.inputs.write(self._far.spread(tensors), parts)
        slots = {slot.name: slot.to_dict() for slot in self._slots}
        if keep:
            self.sets.append({name: private_copy(value) for name, value in self._before.items()})
        self.synchronize()
        return {"inputs": [slots.get(name) or {"name": name, "value": value} for name, value in self._before.items()],
                "arenas": {"inputs": self.inputs.reference(), "outputs": self.outputs.reference()},
                "bytes": sum(value.nbytes for value in tensors.values()), "strided": has_slices(self._before, names)}

    def on_draw_batch(self, message: Message) -> Message:
        """Draw `count` sets of inputs as long as the timed ones, and lay all of them into the arena.

        `known` ones are made of the first timing set, which is faster than drawing.
        """
        self._batch = []
        for number in range(message["count"]):
            self._draw = self._fresh_draw(self._timed_seed)
            self._batch.append(_moved_along(self.sets[0], number) if message["known"] else self._make_inputs())
        self._slots = self.inputs.write({f"{number}/{name}": value for number, inputs in enumerate(self._batch)
                                         for name, value in inputs.items() if isinstance(value, torch.Tensor)})
        slots = {slot.name: slot.to_dict() for slot in self._slots}
        return {"batch": [[{**slots[f"{number}/{name}"], "name": name} if f"{number}/{name}" in slots
                           else {"name": name, "value": value} for name, value in inputs.items()]
                          for number, inputs in enumerate(self._batch)],
                "arenas": {"inputs": self.inputs.reference(), "outputs": self.outputs.reference()}}

    def call_batch(self, batch: list[dict[str, Any]], message: Message) -> Called:
        """Make the calls. Compute nothing with `hand_over`: a batch then takes what it takes besides."""
        if message.get("hand_over") and self._called is not None:
            return hand_over(self._called, batch)
        self._called = super().call_batch(batch, message)
        return self._called

    def batch_inputs(self, number: int, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The same memory as the candidate has, but for indices: none that the baseline follows lies there."""
        return {name: value if isinstance(value, torch.Tensor) and value.is_floating_point()
                else self._batch[number][name] for name, value in self.read_inputs({"inputs": inputs}).items()}

    def room(self, size: int) -> None:
        """Make room for the outputs of a batch."""
        self.outputs.reserve(size)

    def on_judge_batch(self, message: Message) -> Message:
        """Judge one call of a batch."""
        number = message["index"]
        self._before = self._batch[number]
        return self._judged(message["answer"], f"{number}/")

    def on_draw_sweep(self, message: Message) -> Message:
        """Lay the inputs of many calls at different token counts into the arena, or say why there are none."""
        assert self._module is not None
        assert self._judge is not None
        planner = Planner(self._scenario, self._module, self._judge, self.device, message["seed"])
        with one_thread():
            sweep = self._sweep = Sweep(planner, planner.plan(), self.inputs, self.outputs)
            if sweep.plan.why_not:
                return {"why_not": sweep.plan.why_not}
            drawn = sweep.lay_out()
            self.outputs.reserve(sweep.room())
        self.synchronize()
        return {**drawn, "arenas": {"inputs": self.inputs.reference(), "outputs": self.outputs.reference()}}

    def on_judge_sweep(self, message: Message) -> Message:
        """Judge the answer to the calls of a sweep from number `first` on, all at once."""
        assert self._sweep is not None
        try:
            with one_thread():
                finding = self._sweep.judge(message["first"], message["answer"])
        except (ProtocolError, KeyError, TypeError, ValueError) as error:
            finding = no_answer(error)
        self._findings.append(finding)
        return {"finding": _plain(merge(self._findings))}

    def on_reload(self, message: Message) -> Message:
        """Give the module other weights, as a running server is handed new ones, and share them; nothing is timed then.

        `columns`: what alone has changed of each parameter, for large ones on a CPU (`reload`). `index` is the planned
        draw to call it on: the least normal one of more than one token.
        """
        del message
        assert self._module is not None
        assert self._judge is not None
        module, self._stand_in, columns = self._module, None, {}
        size = sum(slot.extent_bytes for slot in self._weight_slots)
        if self.device.type == "cuda" or size <= WHOLE_BYTES or repacks(module):
            move_all(module)
            clear_choices(module, self._scenario, secrets.randbits(31))
            finish_weights(module)
            self._judge = Judge(module, self._scenario)
            self._weight_slots = self.weights.write(state_of(module))
        else:
            columns, state = move_columns(module), state_of(module)
            self._judge.follow(columns)
            for slot in self._weight_slots:
                if slot.name in columns:
                    copy_columns(self.weights.tensor(slot), state[slot.name], columns[slot.name])
        self.synchronize()
        normal = [(draw.tokens, index) for index, draw in enumerate(self._draws) if draw.hard == "normal"]
        return {"index": min(pair for pair in normal if pair[0] > 1)[1], "columns": columns,
                "weights": [slot.to_dict() for slot in self._weight_slots],
                "arenas": {"weights": self.weights.reference()}}

    def on_reserve(self, message: Message) -> Message:
        """Make room for outputs."""
        self.outputs.reserve(message["bytes"])
        return {"arenas": {"outputs": self.outputs.reference()}}

    def on_judge(self, message: Message) -> Message:
        """Judge the candidate's answer to a call on the last draw."""
        return self._judged(message["answer"])

    def on_dump(self, message: Message) -> Message:
        """Write the call that was found wrong last, or the inputs of one that gave nothing; {} where there is none."""
        if self._judge is None or not (self._before or self._judge.wrong):
            return {}
        wrong = self._judge.wrong if message["judged"] else None
        inputs, after, draw = (wrong.inputs, wrong.after, wrong.draw) if wrong else (self._before, None, self._draw)
        found = self._judge.compared(inputs, after)
        assert self._module is not None
        script = write_call(Path(message["folder"]), message["title"], {
            "scenario": self._scenario.to_dict(), "draw": draw.name if draw else "", "inputs": inputs,
            "weights": state_of(self._module), "tolerances": {one.name: one.tolerances for one in found},
            "expected": {one.name: one.expected for one in found},
            "given": {one.name: one.given for one in found if one.given is not None}})
        return {"script": str(script)}

    def _judged(self, answer: Message, prefix: str = "") -> Message:
        """The finding on a call whose inputs lie in the arena under `prefix` and their names."""
        try:
            outcome = self._outcome(answer, prefix)
        except (ProtocolError, KeyError, TypeError, ValueError) as error:
            return {"finding": {"verdict": str(Verdict.NO_RESULT), "correctness": None,
                                "message": f"the answer to the call is none: {error}"[:300]}}
        assert self._judge is not None
        self._findings.append(self._judge.judge(self._before, outcome, self._draw))
        return {"finding": _plain(merge(self._findings))}

    def on_judge_alone(self, message: Message) -> Message:
        """Judge an answer as `on_judge` does, apart from what was found before."""
        before, self._findings = self._findings, []
        try:
            return self.on_judge(message)
        finally:
            self._findings = before

    def on_measure(self, message: Message) -> Message:
        """Time calls, and right afterwards work whose time is known: what disturbs one is seen by the other."""
        return {**super().on_measure(message), "slowdown": self._known_work.slowdown()}

    def on_work(self, message: Message) -> Message:
        """Least bytes and operations of a timed call, and the dtype that bounds its rate."""
        del message
        assert self._module is not None
        if not self.sets:
            self._timed_seed = secrets.randbits(63)
        given = self.sets[0] if self.sets else self._timed_inputs(self._scenario.tokens)
        inputs = {name: private_copy(value) for name, value in given.items()}
        outputs, work = measure_work(self._module, inputs)
        self._written = {name for name, value in inputs.items() if not _equal(value, given[name])}
        self._written |= set(donated(self._module, inputs))
        found = [t for t in (*inputs.values(), *outputs) if isinstance(t, torch.Tensor)]
        floats = [t.dtype for t in found if t.is_floating_point()]
        dtype = str(floats[0] if floats else torch.float32).removeprefix("torch.")
        return {"bytes": work.bytes, "flops": work.flops, "dtype": dtype}

    def on_plan_rooms(self, message: Message) -> Message:
        """Lay out the rooms of timed sections (`TrustedSections.plan`)."""
        assert self._module is not None
        if self._sections is None:
            self._sections = TrustedSections(self._scenario, self._module, self._rooms, self._timed_inputs,
                                             sorted(self._written), self.device)
        return self._sections.plan(message)

    def on_meet_sides(self, message: Message) -> Message:
        """Begin timed sections with what both sides have told."""
        assert self._sections is not None
        bells = dict(zip(reversed(SIDES), self.bells, strict=True))
        try:
            return self._sections.meet(message, bells)
        except (ProtocolError, KeyError, TypeError, ValueError) as error:
            return {"refused": f"{error}"[:300]}

    def on_round(self, message: Message) -> Message:
        """One round of timed sections."""
        assert self._sections is not None
        return self._sections.round(message)

    def on_end_sections(self, message: Message) -> Message:
        """Let both sides of timed sections go."""
        del message
        assert self._sections is not None
        return self._sections.end()

    def on_leave_rooms(self, message: Message) -> Message:
        """Let go of the rooms; a finding where the candidate has changed what it must not."""
        del message
        sections, self._sections = self._sections, None
        return {} if sections is None else sections.leave()

    def _timed_inputs(self, tokens: int) -> dict[str, Any]:
        """Inputs of timed calls: other values each time, sequences as long as in all of this scenario's."""
        draw = replace(self._fresh_draw(self._timed_seed), tokens=tokens)
        return make_inputs(self._scenario, draw, self.device, self._module)

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
        self._draws, self._before, self._slots, self._findings, self._batch = [], {}, [], [], []
        self._far = None
        self._judge = self._module = self._stand_in = self._called = self._sections = self._sweep = None
        for arena in (self.weights, self.inputs, self.outputs, self.shared):
            arena.release()
        super().free()

    def bare_call(self) -> Callable[..., object]:
        """The baseline's module, or what stands in for it."""
        assert self._stand_in is not None
        return self._stand_in.current()

    def _build(self, seed: int) -> nn.Module:
        module = importlib.import_module(f"fastkernels.tasks.baseline.{self._scenario.relative_module}")
        built = build(getattr(module, self._scenario.class_name), self._scenario, self.device)
        digest = hashlib.sha256(f"{seed} {self._scenario.shape_key}".encode()).digest()
        randomise_weights(built, int.from_bytes(digest[:4], "big"))
        clear_choices(built, self._scenario, int.from_bytes(digest[4:8], "big"))
        finish_weights(built)
        return built

    def _make_inputs(self) -> dict[str, Any]:
        return make_inputs(self._scenario, self.own_draw(), self.device, self._module)

    def own_draw(self) -> Draw:
        """The draw that inputs are made for."""
        return self._draw

    def _fresh_draw(self, lengths_seed: int | None = None) -> Draw:
        tokens = self._scenario.tokens
        return Draw(name=f"fresh@t{tokens}", tokens=tokens, seed=secrets.randbits(63), hard="normal",
                    lengths_seed=lengths_seed)

    def _outcome(self, answer: Message, prefix: str) -> CallOutcome:
        """What an answer says of a call whose inputs lie in the arena under `prefix` and their names."""
        after = {slot.name.removeprefix(prefix): self.inputs.tensor(slot) for slot in self._slots
                 if slot.name.startswith(prefix)}
        if self._far is not None and not prefix:
            after = self._far.gathered(after, self._before)
        return read_answer(answer, self.outputs, {**self._before, **after}, self.inputs.damaged())


def _equal(a: Any, b: Any) -> bool:
    """True for other values than tensors, and for tensors of the same bits (a NaN equals itself)."""
    return not isinstance(a, torch.Tensor) or same_bits(a, b)


def _moved_along(inputs: Mapping[str, Any], by: int) -> dict[str, Any]:
    """Other inputs of the same shapes: every float tensor rotated by a few elements, the rest as it is."""
    return {name: private_copy(value).copy_(rolled(value, by))
            if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in inputs.items()}


def _plain(finding: Finding) -> dict[str, Any]:
    correctness = None if finding.correctness is None else asdict(finding.correctness)
    return {"verdict": str(finding.verdict), "message": finding.message, "correctness": correctness}
