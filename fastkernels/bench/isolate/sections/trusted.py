"""What the trusted worker does for timed sections of one scenario: rooms, weights, rounds, and what was found."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import CallOutcome, Draw, Finding, Judge
from fastkernels.bench.grade.tree import tensors
from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.bits import rolled, same_bits
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.sections.bell import Bell, LateError
from fastkernels.bench.isolate.sections.check import compare_all, undone
from fastkernels.bench.isolate.sections.clock import SectionClock, TimedSide
from fastkernels.bench.isolate.sections.fresh import Draw as DrawInputs
from fastkernels.bench.isolate.sections.fresh import FreshInputs, prescribes
from fastkernels.bench.isolate.sections.idle import BusyError
from fastkernels.bench.isolate.sections.link import linked_input
from fastkernels.bench.isolate.sections.room import Room, plan
from fastkernels.bench.isolate.sections.standstill import AwakeError
from fastkernels.bench.isolate.service import private_copy
from fastkernels.bench.isolate.tree import rebuild
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.op import tensor_bytes

SPAN_OF_L2 = 20
"""Copies of the weights take this many times the L2 cache: whoever keeps part of them there gains 5 % at most."""

MOST_COPIES = 64
LEAST_BYTES = 2**18
"""Weights of fewer bytes are not copied: reading them hides behind reading inputs."""

FEWEST_SETS, FEW_SETS = 2, 6
"""A section has FEWEST_SETS in any case, and FEW_SETS where that many fit in MEMORY_SHARE."""

MEMORY_SHARE = 1 / 16
"""Part of the device's memory that inputs and outputs of a section may take: there are two of each, and what draws
them takes as much again."""

SMALL_BYTES, BLOCK_BYTES, MOST_BLOCKS = 2**20, 2 * 2**20, 192
"""torch's allocator puts tensors of up to SMALL_BYTES into blocks of BLOCK_BYTES; the outputs of a section shall lie in
MOST_BLOCKS at most, since another process takes 0.4 ms to open one."""

SIDES = ("baseline", "candidate")


class TrustedSections:
    """One scenario's; `plan`, `meet`, `round` until there is enough, `leave`."""

    def __init__(self, scenario: Scenario, module: nn.Module, arenas: Mapping[str, Arena], draw: DrawInputs,
                 written: Sequence[str], device: torch.device) -> None:
        """arenas: the room of each of SIDES. written: inputs that a call changes or may."""
        self._scenario, self._module, self._device = scenario, module, device
        self._arenas, self._draw, self._written = arenas, draw, written
        self._own = {name: parameter.data for name, parameter in module.named_parameters()}
        self._clock: SectionClock | None = None
        self._secret = 0
        """The copy of the weights on which drawn calls are judged by the rules."""
        self._judge = Judge(module, scenario)

    def plan(self, message: Message) -> Message:
        """Lay out rooms of about as many sets as are `wanted`, with weights and first inputs in them; where they lie.

        Of at most `most` sets, and of as many as fit in `bytes` with their outputs.
        """
        inputs = self._draw(self._scenario.tokens)
        sets = self._sets(message, inputs)
        copies = _copies(self._module, self._device)
        self._layout = layout = plan(self._own if copies > 1 else {}, min(copies, sets), inputs, sets,
                                    prescribes(self._scenario))
        for arena in self._arenas.values():
            arena.reserve(layout.size)
        self._rooms = [Room(self._arenas[side], layout) for side in SIDES]
        ours, theirs = (room.words() for room in self._rooms)
        ours.random_()  # also what lies between tensors, where a write out of bounds shows
        for copy in range(layout.copies):
            for name, view in self._rooms[0].weights_of(copy).items():
                parameter = self._own[name]
                moves = copy and parameter.numel() > 1
                view.copy_(rolled(parameter, 1 + secrets.randbelow(parameter.numel() - 1)) if moves else parameter)
        theirs.copy_(ours)
        linked = linked_input(inputs)
        self._changing = {*self._written, *([linked] if linked is not None else [])}
        self._fresh = FreshInputs(self._scenario, self._draw, self._rooms, sorted(self._changing))
        self._fresh.renew()
        self._fresh.hand_over()
        torch.cuda.synchronize(self._device)
        return {"layout": layout.to_dict(),
                "rooms": {side: {"shared": arena.reference()} for side, arena in self._arenas.items()}}

    def _sets(self, message: Message, inputs: Mapping[str, Any]) -> int:
        """How many sets there are to be. Outputs are taken to be like those of the baseline's call on one."""
        with torch.inference_mode():
            outputs = tensors(invoke(self._module, {name: private_copy(value) for name, value in inputs.items()}))
        sizes = [value.nbytes for value in outputs.values()]
        small = max((size for size in sizes if 0 < size <= SMALL_BYTES), default=0)
        memory = int(torch.cuda.get_device_properties(self._device).total_memory * MEMORY_SHARE)
        size = max(1, sum(sizes) + tensor_bytes(*(
            value for value in inputs.values() if isinstance(value, torch.Tensor))))
        fitting = max(min(message["bytes"], memory) // size, min(FEW_SETS, memory // size))
        blocks = MOST_BLOCKS * (BLOCK_BYTES // small) if small else message["most"]
        return int(max(FEWEST_SETS, min(message["wanted"], message["most"], fitting, blocks)))

    def meet(self, message: Message, bells: Mapping[str, int]) -> Message:
        """Begin with what both sides have told; bells: descriptors. ProtocolError for nonsense."""
        copies = max(1, self._layout.copies)
        self._secret = secrets.randbelow(copies)
        self._hold(self._secret)
        sides: list[TimedSide] = []
        try:
            for side, room in zip(SIDES, self._rooms, strict=True):
                sides.append(TimedSide(side, room, Bell(bells[side]), message["pids"][side], message[side],
                                       self._device, is_trusted=side == "baseline", written=self._written))
                sides[-1].bell.reset()
            self._clock = SectionClock(self._device, sides[0], sides[1], self._fresh, message["timeout_s"],
                                       range(self._secret, self._layout.sets, copies))
        except BaseException:
            for opened in sides:
                opened.blocks.close()
            raise
        return {}

    def round(self, message: Message) -> Message:
        """Time both sides once. `failed` where a side was late, had run meanwhile, or the device was not idle."""
        assert self._clock is not None
        try:
            if message["number"] == 0:
                self._clock.begin()
            taken, wrong = self._clock.round(message["candidate_first"])
        except (LateError, BusyError, AwakeError, ProtocolError) as error:
            self._clock.end()
            return {"failed": type(error).__name__, "side": getattr(error, "side", "candidate"), "why": str(error)}
        reply: Message = {side: asdict(one) for side, one in taken.items()}
        finding = self._found(wrong) if wrong is not None else self._drawn() if message["judge"] else None
        if finding is not None and not finding.verdict.ok:
            self._clock.end()
            reply["finding"] = {"verdict": str(finding.verdict), "message": finding.message, "correctness": None}
        return reply

    def end(self) -> Message:
        """Let both sides go."""
        assert self._clock is not None
        self._clock.end()
        return {}

    def leave(self) -> Message:
        """Let go of everything; a finding where the candidate has changed what it must not."""
        self._hold(None)
        if self._clock is None:
            return {}
        torch.cuda.synchronize(self._device)
        self._clock.close()
        self._clock = None
        return self._changed()

    def _hold(self, copy: int | None) -> None:
        """Have the baseline's module hold one copy of the weights, its own where None or where there are no copies."""
        given = self._rooms[0].weights_of(copy) if copy is not None and self._layout.copies else self._own
        for name, parameter in self._module.named_parameters():
            parameter.data = given[name]
        self._judge = Judge(self._module, self._scenario)

    def _drawn(self) -> Finding:
        """Judge the call that was drawn before the last section."""
        assert self._clock is not None
        return self._judged(self._clock.drawn, self._clock.outputs)

    def _found(self, call: int) -> Finding | None:
        """What to say of a call whose outputs were not the baseline's when they were compared."""
        assert self._clock is not None
        clock, side = self._clock, self._clock.candidate
        self._hold(call % max(1, self._layout.copies))
        finding = self._judged(call, [side.output(call, leaf).clone() for leaf in range(len(side.leaves))])
        self._hold(self._secret)
        if not finding.verdict.ok:
            return Finding(finding.verdict, f"{finding.message} (in a timed section)")
        again = clock.compared(side)
        compare_all(again)
        if undone(again) is None:
            return Finding(Verdict.TIMING_TAMPERED, "outputs of a timed section were not there yet when the process "
                                                    "said that they were")
        return None

    def _judged(self, call: int, leaves: list[torch.Tensor]) -> Finding:
        assert self._clock is not None
        side = self._clock.candidate
        after = side.room.set_of(call)
        tree = side.told.get("tree")
        outcome = CallOutcome(outputs=rebuild(tree, leaves, set()), aliases=[], weights_changed=[], canaries=[],
                              inputs_after={name: value.clone() if isinstance(value, torch.Tensor) else value
                                            for name, value in after.items()}, structure=tree)
        draw = Draw(f"timed@t{self._scenario.tokens}", self._scenario.tokens, 0, "normal")
        return self._judge.judge(self._clock.before(call), outcome, draw)

    def _changed(self) -> Message:
        ours, theirs = self._rooms
        layout = self._layout
        inputs = sorted(slot.name for slot in layout.inputs if slot.name not in self._changing
                        and not same_bits(ours.stack(slot.name), theirs.stack(slot.name)))
        weights = sorted({name for copy in range(layout.copies) for name, own in ours.weights_of(copy).items()
                          if not same_bits(own, theirs.weights_of(copy)[name])})
        if not (inputs or weights or self._beside_differs()):
            return {}
        by_inputs = Verdict.MUTATED_INPUT if inputs else Verdict.OUT_OF_BOUNDS_WRITE
        verdict = Verdict.MUTATED_WEIGHT if weights else by_inputs
        what = ", ".join(weights or inputs) or "memory beside the inputs"
        return {"finding": {"verdict": str(verdict), "message": f"timed calls changed {what}", "correctness": None}}

    def _beside_differs(self) -> bool:
        """Whether memory between tensors was written to, once what calls may change is made alike."""
        ours, theirs = self._rooms
        for name in self._changing:
            theirs.stack(name).copy_(ours.stack(name))
        return not torch.equal(ours.words(), theirs.words())


def _copies(module: nn.Module, device: torch.device) -> int:
    """How many copies of its weights a module is timed on, so that none is found in the L2 cache."""
    size = sum(parameter.nbytes for parameter in module.parameters())
    if size < LEAST_BYTES or any(hasattr(part, "process_weights_after_loading") for part in module.modules()):
        return 1
    span = SPAN_OF_L2 * int(torch.cuda.get_device_properties(device).L2_cache_size)
    return max(1, min(MOST_COPIES, -(-span // size)))
