"""What a candidate's call left behind, and what judging it found."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastkernels.results import Correctness, Verdict


@dataclass(frozen=True)
class CallOutcome:
    """One call of the candidate, as the trusted side sees it. ValueError where the lists are of another form."""

    outputs: Any
    """What forward returned: a tree of None, tuple, list, dict and tensors (views of the shared arena); anything else
    in it, such as a stand-in with a `type_name`, counts as something other than a plain tensor."""
    inputs_after: dict[str, Any]
    """Each input after the call; literals as they are."""
    weights_changed: list[str] = field(default_factory=list)
    """Parameters and buffers whose bits the call changed."""
    aliases: list[Any] = field(default_factory=list)
    """[leaf, what]: output number `leaf` (depth first) shares memory with `what`: `input NAME`, `weight NAME`,
    `previous call` or `output NUMBER`, the last with the lower number."""
    structure: Any = None
    """Description of the tree as it came from the candidate's process; for messages only."""
    canaries: list[str] = field(default_factory=list)
    """Tensors beside which memory was written."""

    def __post_init__(self) -> None:
        pairs = isinstance(self.aliases, list) and all(
            isinstance(pair, list | tuple) and len(pair) == 2 and type(pair[0]) is int and isinstance(pair[1], str)
            for pair in self.aliases
        )
        if not pairs:
            raise ValueError(f"aliases are no list of [leaf, what]: {str(self.aliases)[:200]}")
        for name in ("weights_changed", "canaries"):
            value = getattr(self, name)
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise ValueError(f"{name} is no list of names: {str(value)[:200]}")


@dataclass(frozen=True)
class Finding:
    """What judging one call, or several, found."""

    verdict: Verdict = Verdict.PASSED
    """PASSED, or the first rule that was broken."""
    message: str = ""
    """One line: what is wrong and where; empty when passed."""
    correctness: Correctness | None = None
    """The numbers, where outputs could be compared at all."""


def merge(findings: Sequence[Finding]) -> Finding:
    """Return the first finding that is not PASSED, or PASSED, with the worst numbers of all findings."""
    if not findings:
        raise ValueError("no finding to merge: nothing was checked")
    first = next((finding for finding in findings if not finding.verdict.ok), findings[0])
    numbers = [finding.correctness for finding in findings if finding.correctness is not None]
    return replace(first, correctness=_worst(numbers) if numbers else None)


def _worst(numbers: Sequence[Correctness]) -> Correctness:
    ratio = max(numbers, key=lambda c: _order(c.max_error_ratio))
    scale = max(numbers, key=lambda c: _order(c.rel_l2_error))
    return replace(
        ratio,
        max_abs_error=max((c.max_abs_error for c in numbers), key=_order),
        rel_l2_error=scale.rel_l2_error,
        baseline_rel_l2_error=scale.baseline_rel_l2_error,
        draws=sum(c.draws for c in numbers),
    )


def _order(value: float) -> float:
    """NaN counts as larger than everything."""
    return value if value == value else float("inf")
