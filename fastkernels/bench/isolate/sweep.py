"""The trusted side of a sweep: lays its calls into the arena, and judges all that came of them at once.

See `sweep_plan` for which calls there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fastkernels.bench.grade import CallOutcome, Draw, Finding, donated
from fastkernels.bench.grade.effects import copies
from fastkernels.bench.grade.tree import tensors
from fastkernels.bench.isolate.arena import Arena
from fastkernels.bench.isolate.bits import same_bits
from fastkernels.bench.isolate.protocol import Message, ProtocolError
from fastkernels.bench.isolate.service import private_copy
from fastkernels.bench.isolate.slots import GUARD_BYTES, Slot
from fastkernels.bench.isolate.sweep_calls import Call, Plan, joined_inputs, put_leaves, taken
from fastkernels.bench.isolate.sweep_counts import covered
from fastkernels.bench.isolate.sweep_plan import Planner
from fastkernels.bench.isolate.tree import rebuild
from fastkernels.results import Verdict
from fastkernels.runtime.invoke import invoke

JUDGED_BYTES = {"cpu": 2 * 1024**2, "cuda": 1024**3}
"""Inputs that are judged at once: on a CPU so few that what is made of them stays in its caches."""

ALIKE = 0.05
"""Values in a cache that differ by less are the same ones, when the call is looked for that has not written its own."""

SHARED = "shared/"
"""Prefix of the names that inputs common to all calls have in the arena."""


@dataclass
class Sweep:
    """One sweep between `lay_out` and the last call judged."""

    planner: Planner
    plan: Plan
    inputs: Arena
    outputs: Arena
    _slots: dict[str, Slot] = field(default_factory=dict)
    _shared: dict[str, torch.Tensor] = field(default_factory=dict)
    """What inputs common to all calls held before those that are judged next."""
    _right: list[torch.Tensor] = field(default_factory=list)
    """Outputs of the call on all base rows, once they were found right; None of them where there are no base rows."""
    _after: dict[str, torch.Tensor] = field(default_factory=dict)
    """That call's inputs as it left them, where it changed them."""
    _tree: Any = None

    def lay_out(self) -> Message:
        """Write the inputs of all calls; they share what is not cut into parts."""
        calls, cut = self.plan.calls, self.plan.cut
        own = {f"{number}/{name}": value for number, call in enumerate(calls) for name, value in call.inputs.items()
               if isinstance(value, torch.Tensor) and (name in cut or not cut)}
        shared = {SHARED + name: value for name, value in calls[0].inputs.items()
                  if isinstance(value, torch.Tensor) and cut and name not in cut}
        self._slots = {slot.name: slot for slot in self.inputs.write({**own, **shared})}
        self._shared = {name.removeprefix(SHARED): value for name, value in shared.items()}
        return {"batch": [[self._argument(number, name, value) for name, value in call.inputs.items()]
                          for number, call in enumerate(calls)],
                "counts": self.plan.counts, "modulus": covered(self.plan.counts[1 if self._has_base else 0:])}

    def room(self) -> int:
        """Bytes that the outputs of all calls take: by those of the baseline on the first call's inputs."""
        call = self.plan.calls[0]
        with torch.inference_mode():
            outputs = invoke(self.planner.module, copies(call.inputs))
        sizes = [tensor.nbytes for tensor in tensors(outputs).values()]
        total = sum(self.plan.counts)
        return sum(-(-size * (total + call.count) // call.count) for size in sizes) + (
            (2 * GUARD_BYTES) * (len(sizes) * len(self.plan.calls) + 1))

    def judge(self, first: int, answer: Message) -> Finding:
        """Judge the calls from number `first` on whose answer this is."""
        calls = self.plan.calls[first:first + len(answer["trees"])]
        trees = self._read(answer, calls)
        canary = self.inputs.damaged()
        common = {"weights_changed": answer["weights_changed"],
                  "canaries": [] if canary is None else [canary.rpartition("/")[2]]}
        if not self.plan.cut:
            return self._first_wrong(calls, trees, first, common)
        if self._has_base and first == 0:
            finding = self._judge([calls[0]], trees[:1], first, common)
            if not finding.verdict.ok or len(calls) == 1:
                return self._named(finding, calls[:1])
            self._remember(trees[0])
            calls, trees, first = calls[1:], trees[1:], first + 1
        elif self._has_base and self._quietly_right(calls, trees, first) and not any(common.values()):
            return Finding()
        return self._pooled(calls, trees, first, common)

    @property
    def _has_base(self) -> bool:
        return self.plan.calls[0].rows is not None

    def _argument(self, number: int, name: str, value: Any) -> dict[str, Any]:
        slot = self._slots.get(f"{number}/{name}") or self._slots.get(SHARED + name)
        return {"name": name, "value": value} if slot is None else {**slot.to_dict(), "name": name}

    def _read(self, answer: Message, calls: Sequence[Call]) -> list[Any]:
        """The outputs of each call, rebuilt over views of the arena."""
        slots = [Slot.from_dict(data) for data in answer["slots"]]
        leaves: dict[str, list[torch.Tensor]] = {}
        for slot in slots:
            if slot.extent_bytes != self.outputs.tensor(slot).nbytes:
                raise ProtocolError(f"{slot.name}: an output whose elements overlap or lie apart")
            leaves.setdefault(slot.name.partition("/")[0], []).append(self.outputs.tensor(slot))
        trees = []
        for number in range(len(calls)):
            own, used = leaves.get(str(number), []), set[int]()
            trees.append(rebuild(answer["trees"][number], own, used))
            if len(used) != len(own):
                raise ProtocolError("a tree that lacks some of the outputs")
        return trees

    def _inputs_after(self, number: int, call: Call) -> dict[str, Any]:
        """Views of the inputs of one call as they are now."""
        slots = {name: self._slots.get(f"{number}/{name}") or self._slots.get(SHARED + name) for name in call.inputs}
        return {name: value if (slot := slots[name]) is None else self.inputs.tensor(slot)
                for name, value in call.inputs.items()}

    def _remember(self, tree: Any) -> None:
        """Keep the outputs of the call on all base rows, which were right, and its inputs where it changed them."""
        base = self.plan.calls[0]
        self._right = [leaf.clone() for leaf in tensors(tree).values()]
        self._tree = tree
        gone = donated(self.planner.module, base.inputs)
        after = self._inputs_after(0, base)
        self._after = {name: after[name].clone() for name in self.plan.cut
                       if name not in gone and not same_bits(after[name], base.inputs[name])}
        self._shared = {name: private_copy(after[name]) for name in self._shared}

    def _quietly_right(self, calls: Sequence[Call], trees: Sequence[Any], first: int) -> bool:
        """Whether all that these calls left has the bits that the call on all base rows left for the same rows."""
        base = self.plan.calls[0]
        rows = torch.cat([call.rows for call in calls if call.rows is not None])
        found = [list(tensors(tree).values()) for tree in trees]
        shapes = [(len(leaf), *leaf.shape[1:]) for leaf in self._right]
        if any(_kinds(tree) != _kinds(self._tree) for tree in trees):
            return False
        for call, leaves in zip(calls, found, strict=True):
            due = [(size * call.count // base.count, *rest) for size, *rest in shapes]
            if [tuple(leaf.shape) for leaf in leaves] != due:
                return False
        pairs = [(torch.cat([leaves[place] for leaves in found]), taken(right, rows, len(right) // base.count))
                 for place, right in enumerate(self._right)]
        gone = donated(self.planner.module, base.inputs)
        after = [self._inputs_after(first + number, call) for number, call in enumerate(calls)]
        for name, width in self.plan.cut.items():
            if name not in gone:
                due_rows = taken(self._after.get(name, base.inputs[name]), rows, width)
                pairs.append((torch.cat([each[name] for each in after]), due_rows))
        pairs += [(after[0][name], value) for name, value in self._shared.items()]
        return all(same_bits(got, due) for got, due in pairs)

    def _pooled(self, calls: Sequence[Call], trees: Sequence[Any], first: int, common: dict[str, Any]) -> Finding:
        """Judge these calls as if they were one; where that is wrong name the first that is wrong by itself."""
        if any(_kinds(tree) != _kinds(trees[0]) for tree in trees):
            return self._first_wrong(calls, trees, first, common)
        if self._writes(first, calls):
            finding = self._judge(calls, trees, first, common)
            return self._named(finding, calls if finding.verdict.ok else self._not_written(calls, first) or calls)
        finding = Finding()
        for part in self._groups(calls):
            finding = self._judge(calls[part], trees[part], first + part.start, common)
            if not finding.verdict.ok:
                alone = self._first_wrong(calls[part], trees[part], first + part.start, common)
                return alone if not alone.verdict.ok else self._named(finding, calls[part])
        return finding

    def _groups(self, calls: Sequence[Call]) -> list[slice]:
        """Consecutive calls that are judged as one: their inputs take no more than JUDGED_BYTES, or are one call's."""
        most, groups, start, size = JUDGED_BYTES[self.planner.device.type], [], 0, 0
        for number, call in enumerate(calls):
            own = sum(call.inputs[name].nbytes for name in self.plan.cut)
            if size + own > most and number > start:
                groups.append(slice(start, number))
                start, size = number, 0
            size += own
        return [*groups, slice(start, len(calls))]

    def _writes(self, first: int, calls: Sequence[Call]) -> bool:
        """Whether these calls have changed what all calls share."""
        after = self._inputs_after(first, calls[0])
        return any(not same_bits(after[name], value) for name, value in self._shared.items())

    def _not_written(self, calls: Sequence[Call], first: int) -> Sequence[Call]:
        """The first call that the baseline, made again on what is there now, changes something by; none: ()."""
        for number, call in enumerate(calls):
            after = self._inputs_after(first + number, call)
            again = copies({**call.inputs, **{name: after[name] for name in self._shared}})
            with torch.inference_mode():
                invoke(self.planner.module, again)
            if not all(torch.allclose(again[name].float(), after[name].float(), ALIKE, ALIKE, equal_nan=True)
                       for name in self._shared):
                return [call]
        return ()

    def _first_wrong(self, calls: Sequence[Call], trees: Sequence[Any], first: int, common: dict[str, Any]) -> Finding:
        """The finding on the first call that is wrong by itself, or PASSED."""
        finding = Finding()
        for number, (call, tree) in enumerate(zip(calls, trees, strict=True)):
            finding = self._named(self._judge([call], [tree], first + number, common), [call])
            if not finding.verdict.ok:
                break
        return finding

    def _judge(self, calls: Sequence[Call], trees: Sequence[Any], first: int, common: dict[str, Any]) -> Finding:
        """Judge one call, or several as a single one that does the work of all."""
        after = [self._inputs_after(first + number, call) for number, call in enumerate(calls)]
        if len(calls) == 1:
            before, left, tree = dict(calls[0].inputs), after[0], trees[0]
        else:
            before = joined_inputs(self.planner.scenario, list(calls), self.plan.cut)
            left = {name: torch.cat([each[name] for each in after]) if name in self.plan.cut else after[0][name]
                    for name in before}
            left |= {name: value for name, value in before.items() if not isinstance(value, torch.Tensor)}
            found = [list(tensors(tree).values()) for tree in trees]
            try:
                joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
            except (RuntimeError, ValueError):  # shapes that do not go together: some call's is wrong
                return self._first_wrong(calls, trees, first, common)
            tree = put_leaves(trees[0], iter(joined))
        before |= {name: value for name, value in self._shared.items() if name in before}
        left = {name: private_copy(value) for name, value in left.items()}
        outputs = put_leaves(tree, iter([leaf.clone() for leaf in tensors(tree).values()]))
        draw = Draw("sweep", sum(call.count for call in calls), 0, "normal")
        finding = self.planner.judge.judge(before, CallOutcome(outputs=outputs, inputs_after=left, **common), draw)
        if finding.verdict.ok and len(calls) > 1:
            self._shared = {name: left[name] for name in self._shared}
        return finding

    def _named(self, finding: Finding, calls: Sequence[Call]) -> Finding:
        """The finding with the token count that it was made at."""
        if finding.verdict.ok:
            return finding
        counts = [call.count for call in calls]
        at = f"{counts[0]} tokens" if len(counts) == 1 else f"{min(counts)} to {max(counts)} tokens"
        verdict = finding.verdict
        return Finding(verdict, f"{finding.message} (at {at}, in a sweep of {len(self.plan.calls)} token counts)",
                       finding.correctness)


def no_answer(error: Exception) -> Finding:
    """The finding on an answer that is none."""
    return Finding(Verdict.NO_RESULT, f"the answer to a sweep of token counts is none: {error}"[:300])


def _kinds(tree: Any) -> Any:
    """The tree with dtypes and sizes behind the first dimension in place of tensors."""
    if isinstance(tree, tuple | list):
        return type(tree), [_kinds(item) for item in tree]
    if isinstance(tree, dict):
        return {key: _kinds(item) for key, item in tree.items()}
    if isinstance(tree, torch.Tensor):
        return tree.dtype, tree.shape[1:], tree.device.type
    return None if tree is None else str(tree)
