"""Applies the correctness rules to one call of a candidate, in their order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import effects
from fastkernels.bench.grade.draws import Draw
from fastkernels.bench.grade.edges import EDGES, FAR
from fastkernels.bench.grade.idle import without_idle_rows
from fastkernels.bench.grade.leaf import Leaf, LeafFinding, judge_leaves
from fastkernels.bench.grade.oracle import Oracle
from fastkernels.bench.grade.outcome import CallOutcome, Finding
from fastkernels.bench.grade.spoil import NAN
from fastkernels.bench.grade.tolerances import COMPOSED_SPREAD, tolerances
from fastkernels.bench.grade.tree import difference, dtype_name, leaves, tensors
from fastkernels.manifest.scenario import Scenario
from fastkernels.results import Correctness, Verdict, WorstElement
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.op import Op


@dataclass(frozen=True)
class Reference:
    """What the baseline and the oracle make of the same inputs."""

    outputs: Any
    """The baseline's outputs."""
    inputs: dict[str, Any]
    """The baseline's inputs after the call."""
    expected: Any
    """The oracle's outputs."""
    expected_inputs: dict[str, Any]
    """The oracle's inputs after the call."""
    aliases: set[tuple[int, str]]
    """Memory that the baseline's outputs share with inputs, weights and each other."""


@dataclass(frozen=True)
class WrongCall:
    """A call that was judged and found wrong."""

    inputs: Mapping[str, Any]
    """What it was given."""
    after: CallOutcome
    """What it left; valid until the arena is written again."""
    draw: Draw | None
    """The draw that gave the inputs."""


@dataclass(frozen=True)
class Compared:
    """One output or mutated input of a call."""

    name: str
    """As messages name it."""
    expected: torch.Tensor
    """The oracle's, in its precision."""
    given: torch.Tensor | None
    """The candidate's; None where it gave none."""
    tolerances: tuple[float, float]
    """atol and rtol; half a step and none for integers."""


class Judge:
    """Judges a candidate's calls against a baseline module and its oracle."""

    def __init__(self, module: nn.Module, scenario: Scenario) -> None:
        """`module` is the trusted baseline with the weights that the candidate was given too."""
        self._module = module
        self._scenario = scenario
        self._oracle: Oracle | None = None
        self.wrong: WrongCall | None = None
        """The last call that was found wrong."""

    def judge(self, inputs_before: Mapping[str, Any], after: CallOutcome, draw: Draw | None = None) -> Finding:
        """Run baseline and oracle on `inputs_before` and judge what the candidate's call left; waits on the device."""
        finding = self._judged(inputs_before, after, draw)
        if not finding.verdict.ok:
            self.wrong = WrongCall(inputs_before, after, draw)
        return finding

    def compared(self, inputs_before: Mapping[str, Any], after: CallOutcome | None) -> list[Compared]:
        """What is expected of a call beside what it gave, mutated inputs first; nothing given where `after` is None."""
        reference = self._reference(inputs_before)
        given = _tensors_of(after.outputs) if after is not None else {}
        if after is None or self._unusable(reference) or self._structure(reference, inputs_before, after):
            outputs = tensors(reference.outputs)
            return [Compared(name, value, given.get(name), _tolerances(outputs[name].dtype))
                    for name, value in tensors(reference.expected).items() if name in outputs]
        mutated, _ = self._changes(inputs_before, reference, after)
        return [Compared(leaf.name, leaf.expected, leaf.got, _tolerances(leaf.baseline.dtype))
                for leaf in self._leaves(inputs_before, reference, after, mutated)]

    def _judged(self, inputs_before: Mapping[str, Any], after: CallOutcome, draw: Draw | None) -> Finding:
        reference = self._reference(inputs_before)
        broken = self._unusable(reference) or self._structure(reference, inputs_before, after)
        if broken is not None:
            return broken
        mutated, disturbed = self._changes(inputs_before, reference, after)
        if disturbed:
            return Finding(Verdict.MUTATED_INPUT, f"input {disturbed} was changed{_in(draw)}")
        if after.weights_changed:
            return Finding(Verdict.MUTATED_WEIGHT, f"weight {after.weights_changed[0]} was changed{_in(draw)}")
        if after.canaries:
            return Finding(Verdict.OUT_OF_BOUNDS_WRITE, f"memory beside {after.canaries[0]} was written{_in(draw)}")
        leaves = self._leaves(inputs_before, reference, after, mutated)
        if draw is not None and draw.hard in (EDGES, FAR, NAN):
            leaves = [without_idle_rows(leaf, inputs_before) for leaf in leaves]
        found = judge_leaves(leaves, _in(draw))
        return Finding(found.verdict, found.message, _correctness(found, draw))

    def follow(self, columns: Mapping[str, tuple[int, int]]) -> None:
        """Take over these columns (last dimension) of the module's parameters, which have changed since."""
        if self._oracle is not None:
            self._oracle.follow(self._module, columns)

    def _reference(self, inputs: Mapping[str, Any]) -> Reference:
        if self._oracle is None:
            self._oracle = Oracle(self._module, inputs)
        own = effects.copies(inputs)
        with torch.inference_mode():
            outputs = invoke(self._module, own)
        expected, expected_inputs = self._oracle(inputs)
        return Reference(outputs, own, expected, expected_inputs, effects.shared_memory(self._module, own, outputs))

    def _unusable(self, reference: Reference) -> Finding | None:
        """TASK_INVALID where the baseline's outputs are nothing that can be graded."""
        for name, value in leaves(reference.outputs).items():
            if not isinstance(value, torch.Tensor | None):
                return _invalid(f"{name} is an object of type {type(value).__name__}; only tensors are graded")
            if isinstance(value, torch.Tensor) and value.is_complex():
                return _invalid(f"{name} is {dtype_name(value)}; complex outputs are not supported")
        expected, got = tensors(reference.expected), tensors(reference.outputs)
        if {n: t.shape for n, t in expected.items()} != {n: t.shape for n, t in got.items()}:
            return _invalid("the native path returns another tree or other shapes than the production path")
        return None

    def _structure(self, reference: Reference, inputs: Mapping[str, Any], after: CallOutcome) -> Finding | None:
        found = difference(reference.outputs, after.outputs)
        if found is not None:
            return Finding(*found)
        alias = effects.forbidden(after.aliases, reference.aliases, self._donated(inputs))
        if alias is None:
            return None
        names = list(tensors(after.outputs))
        name = names[alias[0]] if 0 <= alias[0] < len(names) else f"output {alias[0]}"
        other = f"that of the {alias[1]}" if alias[1] == "previous call" else alias[1]
        return Finding(Verdict.ALIASED_OUTPUT, f"{name} shares memory with {other}")

    def _donated(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        return effects.donated(self._module, inputs)

    def _changes(
        self, before: Mapping[str, Any], reference: Reference, after: CallOutcome
    ) -> tuple[list[str], str]:
        """Inputs that the baseline mutates, and the first other one that the candidate has changed (or '')."""
        donated = self._donated(before)
        names = [name for name, value in before.items() if isinstance(value, torch.Tensor) and name not in donated]
        flags = [effects.changed(before[n], t[n]) for t in (reference.inputs, after.inputs_after) for n in names]
        values = torch.stack(flags).tolist() if flags else []
        by_baseline, by_candidate = values[:len(names)], values[len(names):]
        mutated = [name for name, flag in zip(names, by_baseline, strict=True) if flag]
        others = [name for name, flag in zip(names, by_candidate, strict=True) if flag and name not in mutated]
        literals = [name for name, value in before.items()
                    if not isinstance(value, torch.Tensor) and after.inputs_after.get(name) != value]
        return mutated, next(iter(others + literals), "")

    def _leaves(
        self, before: Mapping[str, Any], reference: Reference, after: CallOutcome, mutated: list[str]
    ) -> list[Leaf]:
        """Everything to compare: mutated inputs, then outputs in their canonical form."""
        assert self._oracle is not None
        once = isinstance(self._module, Op) and not self._module.rounds_often
        spread = 0.0 if once else COMPOSED_SPREAD
        found = [Leaf(name=name, expected=reference.expected_inputs[name], baseline=reference.inputs[name],
                      got=after.inputs_after[name], before=before[name], spread=spread) for name in mutated]
        trees = [tensors(tree) for tree in (reference.expected, reference.outputs, after.outputs)]
        if isinstance(self._module, Op) and type(self._module).canonical is not Op.canonical:
            sides = ((reference.expected, self._oracle.upcast(before)), (reference.outputs, before),
                     (after.outputs, before))
            with torch.inference_mode():
                trees = [tensors(self._module.canonical(outputs, inputs)) for outputs, inputs in sides]
        roundings, constants = self._errors(before, trees[1])
        return found + [Leaf(name=name, expected=trees[0][name], baseline=trees[1][name], got=trees[2][name],
                             spread=spread, rounding=roundings.get(name), constant=constants.get(name))
                        for name in trees[1]]

    def _errors(
        self, before: Mapping[str, Any], outputs: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """What elements of each output may be off besides, by the operator's own error model."""
        assert self._oracle is not None
        units = [torch.finfo(t.dtype).eps / 2 for t in outputs.values() if t.is_floating_point()]
        found = self._oracle.errors(before, max(units)) if units else (None, None)
        roundings, constants = ({name: error.nan_to_num(0.0, 0.0, 0.0) for name, error in tensors(tree).items()}
                                for tree in found)
        return roundings, constants


def _correctness(found: LeafFinding, draw: Draw | None) -> Correctness | None:
    """The numbers of one call; None where no output is a float."""
    atol, rtol = tolerances(found.dtype) if found.dtype is not None else (0.0, 0.0)
    normal = draw is None or draw.hard == "normal"
    worst = None
    if found.worst is not None:
        name, numbers = found.worst
        worst = WorstElement(name, numbers.index, numbers.expected, numbers.got)
    return Correctness(
        max_abs_error=found.max_abs if normal else 0.0, max_error_ratio=found.max_ratio, rel_l2_error=found.rel_l2,
        baseline_rel_l2_error=found.baseline_rel_l2, atol=atol, rtol=rtol, draws=1, worst=worst,
        draw="" if draw is None else draw.name,
    )


def _tensors_of(outputs: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in leaves(outputs).items() if isinstance(value, torch.Tensor)}


def _tolerances(dtype: torch.dtype) -> tuple[float, float]:
    return tolerances(dtype) if dtype.is_floating_point else (0.5, 0.0)


def _invalid(message: str) -> Finding:
    return Finding(Verdict.TASK_INVALID, message)


def _in(draw: Draw | None) -> str:
    return "" if draw is None else f", draw {draw.name}"
