"""Rules 4 and 5 on pairs of tensors: exact integers, NaN and infinities, error ratio, scale-free error."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from fastkernels.bench.grade.compare import Numbers, baseline_ratio, finite, gather, read, scale_ratio, settle, unravel
from fastkernels.bench.grade.effects import stray_rows
from fastkernels.bench.grade.tolerances import BASELINE_FACTOR, COMPOSED_BASELINE_FACTOR, Limits, limits
from fastkernels.results import Verdict


@dataclass(frozen=True)
class Leaf:
    """One output or mutated input, three times over."""

    name: str
    """As messages name it."""
    expected: torch.Tensor
    """The oracle's, in its precision."""
    baseline: torch.Tensor
    """The baseline's."""
    got: torch.Tensor
    """The candidate's: shape and dtype of the baseline's."""
    before: torch.Tensor | None = None
    """For a mutated input, what it was before the call."""
    spread: float = 0.0
    """Times the baseline's own error in its row that an element may be off besides (COMPOSED_SPREAD, or none)."""
    rounding: torch.Tensor | None = None
    """What each element may be off besides where terms cancel (`Op.rounding_error`); finite."""
    constant: torch.Tensor | None = None
    """What each element, row and the whole may be off besides (`Op.constant_error`); finite."""

    @property
    def is_float(self) -> bool:
        """Whether tolerances apply."""
        return self.baseline.is_floating_point()

    @property
    def baseline_factor(self) -> float:
        """Floors that the baseline itself may be off."""
        return COMPOSED_BASELINE_FACTOR if self.spread else BASELINE_FACTOR

    @property
    def limits(self) -> Limits:
        """Limits of its dtype."""
        return limits(self.baseline.dtype)


@dataclass
class LeafFinding:
    """What comparing all leaves found."""

    verdict: Verdict = Verdict.PASSED
    message: str = ""
    worst: tuple[str, Numbers] | None = None
    """The float leaf with the largest error ratio, and its numbers."""
    dtype: torch.dtype | None = None
    """Its dtype."""
    max_abs: float = 0.0
    max_ratio: float = 0.0
    rel_l2: float = 0.0
    baseline_rel_l2: float = 0.0
    problems: list[tuple[int, Verdict, str]] = field(default_factory=list)
    """(rank of the rule, verdict, message) of each broken rule."""

    def note(self, name: str, leaf: Leaf, baseline: Numbers, got: Numbers) -> None:
        """Take the numbers of a float leaf into the totals."""
        if self.worst is None or not got.ratio <= self.max_ratio:
            self.worst, self.dtype, self.max_ratio = (name, got), leaf.baseline.dtype, got.ratio
        self.max_abs = got.max_abs if not got.max_abs <= self.max_abs else self.max_abs
        if not got.rel_l2 <= self.rel_l2 or not self.baseline_rel_l2:
            self.rel_l2, self.baseline_rel_l2 = got.rel_l2, baseline.rel_l2


STRAY, INTEGERS, NONFINITE, VALUES, SCALE = range(5)
"""Order of the rules within one call."""


def judge_leaves(found: Sequence[Leaf], where: str) -> LeafFinding:
    """Compare all leaves; `where` (`, draw tiny@t33#7`) ends the messages. One copy to the host where all is right."""
    result = LeafFinding()
    counts = [_counts(leaf) for leaf in found]
    sides = [_sides(leaf) if leaf.is_float and leaf.got.numel() else [] for leaf in found]
    counted, numbers = _to_host(counts, sides)
    for leaf, count, rows in zip(found, counted, numbers, strict=True):
        if count[0]:
            _stray(result, leaf)
        if leaf.is_float:
            _float_rules(result, leaf, rows, where)
        elif count[1] or count[2]:
            _integer_rule(result, leaf, wrong_baseline=bool(count[1]), where=where)
    if result.problems:
        _, result.verdict, result.message = min(result.problems, key=lambda problem: problem[0])
    return result


def _sides(leaf: Leaf) -> list[torch.Tensor]:
    return _gathered(leaf, leaf.expected, leaf.baseline, leaf.got)


def _gathered(leaf: Leaf, expected: torch.Tensor, baseline: torch.Tensor, got: torch.Tensor) -> list[torch.Tensor]:
    """Numbers of these three by the leaf's limits."""
    return gather(expected, baseline, got, leaf.limits, leaf.spread, leaf.baseline_factor,
                  leaf.rounding, leaf.constant)


def _counts(leaf: Leaf) -> torch.Tensor:
    """[rows written where the baseline writes nothing, wrong integers of the baseline, of the candidate] as float64."""
    none = torch.zeros((), dtype=torch.int64, device=leaf.baseline.device)
    strays = none if leaf.before is None else stray_rows(leaf.before, leaf.baseline, leaf.got).sum()
    if leaf.is_float:
        return torch.stack((strays, none, none)).double()
    return torch.stack((strays, (leaf.expected != leaf.baseline).sum(), (leaf.expected != leaf.got).sum())).double()


def _to_host(
    counts: list[torch.Tensor], sides: list[list[torch.Tensor]]
) -> tuple[list[list[float]], list[list[list[list[float]]]]]:
    """Copy all small tensors to the host at once and give them back in their shapes."""
    parts = counts + [side for pair in sides for side in pair]
    flat: list[float] = torch.cat([part.reshape(-1) for part in parts]).tolist() if parts else []
    read_parts, at = [], 0
    for part in parts:
        read_parts.append(flat[at:at + part.numel()])
        at += part.numel()
    rest = iter(zip(parts[len(counts):], read_parts[len(counts):], strict=True))
    numbers = []
    for pair in sides:
        taken = [next(rest) for _ in pair]
        numbers.append([[row[i:i + part.shape[1]] for i in range(0, len(row), part.shape[1])] for part, row in taken])
    return read_parts[:len(counts)], numbers


def _stray(result: LeafFinding, leaf: Leaf) -> None:
    assert leaf.before is not None
    mask = stray_rows(leaf.before, leaf.baseline, leaf.got)
    row = unravel(int(mask.flatten().to(torch.uint8).argmax()), mask.shape)
    message = f"input {leaf.name} (row {_index(row)}): written where the baseline writes nothing"
    result.problems.append((STRAY, Verdict.MUTATED_INPUT, message))


def _integer_rule(result: LeafFinding, leaf: Leaf, wrong_baseline: bool, where: str) -> None:
    got = leaf.baseline if wrong_baseline else leaf.got
    mask = (leaf.expected != got).flatten()
    at = int(mask.to(torch.uint8).argmax())
    expected, found = leaf.expected.flatten()[at].item(), got.flatten()[at].item()
    text = (f"{leaf.name} (element {_index(unravel(at, got.shape))}): expected {expected}, got {found} "
            f"({int(mask.sum())} of {mask.numel()} elements{where})")
    _report(result, leaf, INTEGERS, Verdict.WRONG_INTEGERS, text, wrong_baseline)


def _float_rules(result: LeafFinding, leaf: Leaf, rows: list[list[list[float]]], where: str) -> None:
    shape = tuple(leaf.got.shape)
    baseline, got = (read(side, shape) for side in rows) if rows else (read([], shape), read([], shape))
    if not finite(baseline) or not finite(got):
        baseline, got = _nonfinite_rule(result, leaf, got, where)
    result.note(leaf.name, leaf, baseline, got)
    if baseline.ratio > 1:
        _report(result, leaf, VALUES, Verdict.WRONG_VALUES, _element(leaf.name, baseline, where), True)
    if baseline_ratio(leaf.limits, baseline, leaf.baseline_factor) > 1 or baseline.row_ratio > 1:
        _report(result, leaf, SCALE, Verdict.WRONG_SCALE, _scale(leaf.name, baseline, None, where), True)
    if got.ratio > 1:
        _report(result, leaf, VALUES, Verdict.WRONG_VALUES, _element(leaf.name, got, where), False)
    if scale_ratio(leaf.limits, baseline, got) > 1:
        _report(result, leaf, SCALE, Verdict.WRONG_SCALE, _scale(leaf.name, got, baseline, where), False)
    elif got.row_ratio > 1:
        _report(result, leaf, SCALE, Verdict.WRONG_SCALE, _row(leaf.name, got, where), False)


def _nonfinite_rule(result: LeafFinding, leaf: Leaf, got: Numbers, where: str) -> tuple[Numbers, Numbers]:
    """Judge NaN and infinities; the numbers of what is finite, or the candidate's as given where it disagrees."""
    disagrees = False
    settled, baseline_mask, got_mask = settle(leaf.expected, leaf.baseline, leaf.got, leaf.limits)
    for mask, x, own in ((baseline_mask, leaf.baseline, True), (got_mask, leaf.got, False)):
        wrong = int(mask.sum())
        if wrong:
            at = int(mask.flatten().to(torch.uint8).argmax())
            expected, found = float(leaf.expected.flatten()[at]), float(x.flatten()[at])
            text = (f"{leaf.name} (element {_index(unravel(at, x.shape))}): expected {expected:.6g}, got {found:.6g} "
                    f"({wrong} of {mask.numel()} elements{where})")
            _report(result, leaf, NONFINITE, Verdict.WRONG_NONFINITE, text, own)
            disagrees = disagrees or not own
    sides = [side.tolist() for side in _gathered(leaf, *settled)]
    fresh_baseline, fresh_got = (read(side, leaf.got.shape) for side in sides)
    return fresh_baseline, got if disagrees else fresh_got


def _report(result: LeafFinding, leaf: Leaf, rank: int, verdict: Verdict, text: str, of_baseline: bool) -> None:
    """Note a broken rule: the task's where it is the baseline that breaks it, MISSED_WRITE for a mutated input."""
    if of_baseline:
        result.problems.append((-1, Verdict.TASK_INVALID, f"the baseline itself fails against its oracle: {text}"))
    elif leaf.before is not None:
        result.problems.append((rank, Verdict.MISSED_WRITE, f"input {text}"))
    else:
        result.problems.append((rank, verdict, text))


def _element(name: str, numbers: Numbers, where: str) -> str:
    total = 1
    for size in numbers.shape:
        total *= size
    return (f"{name} (element {_index(numbers.index)}): expected {numbers.expected:.6g}, got {numbers.got:.6g} "
            f"(error ratio {numbers.ratio:.3g}, {numbers.wrong} of {total} elements{where})")


def _scale(name: str, numbers: Numbers, baseline: Numbers | None, where: str) -> str:
    beside = "" if baseline is None else f" where the baseline has {baseline.rel_l2:.3g}"
    return f"{name}: relative L2 error {numbers.rel_l2:.3g}{beside} (worst row {numbers.row_rel_l2:.3g}{where})"


def _row(name: str, numbers: Numbers, where: str) -> str:
    return (f"{name} (row {_index(numbers.row_index)}): relative L2 error {numbers.row_rel_l2:.3g}, "
            f"{numbers.row_ratio:.3g} times what is allowed (whole tensor {numbers.rel_l2:.3g}{where})")


def _index(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index)) if index else "the only one"
