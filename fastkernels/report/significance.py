"""Decides which changes between two runs are the candidate's, and more than chance among so many comparisons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from fastkernels.results import Timing

FAMILY_LEVEL = 0.05
"""Chance that two equal runs are told apart anywhere at a limit of 0 %; half for scenarios, half for groups of them."""
DEGREES = 9
"""Degrees of freedom behind an interval: ten rounds less one (docs/timing.md). Its tails are wider than a normal's."""
QUANTILE = 2.2621571628
"""Student's t with that many degrees of freedom, two-sided 95 %."""
SHARED = 0.1
"""Part of the variance that is taken as common to the shapes of one operator in one run: the processes are the same.

Ten operators against themselves (docs/report.md) were off by 0.02 to 0.42 % in the mean over their shapes; with a tenth
these are 0.1 to 0.9 standard deviations."""
MOVED = 0.1
"""A baseline whose time has changed by more than this part, beside what the machine as a whole has, has moved."""
SHAPES_FOR_DRIFT, MOST_DRIFT = 5, 0.5
"""Shapes from which on the machine's own change is known, and the most that one machine is taken to have changed."""
_LEAST = 1e-9
"""No interval is taken to be narrower."""


@dataclass(frozen=True)
class Change:
    """How much longer the candidate takes in the new run, each time measured by the baseline of its own run."""

    log_ratio: float
    """log(speedup before / speedup now): over 0 is slower."""
    below: float
    """Distance to the lower end of the 95 % interval, in the logarithm."""
    above: float
    """Distance to the upper end."""
    by_speedup: float | None = None
    """The same logarithm by the speedups alone, where the baseline has moved; None where it has not."""

    @property
    def moved(self) -> bool:
        """Whether it is the baseline that makes the speedups differ, beyond their intervals."""
        if self.by_speedup is None or self.by_speedup == self.log_ratio:
            return False
        return self.by_speedup > self.below or -self.by_speedup > self.above

    @property
    def slowdown(self) -> float:
        """Change of the time as a fraction: 0.05 is 5 % slower, below 0 is faster."""
        return math.expm1(self.log_ratio)

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of the slowdown."""
        return math.expm1(self.log_ratio - self.below)

    @property
    def high(self) -> float:
        """Upper end."""
        return math.expm1(self.log_ratio + self.above)

    def chance_slower(self, limit: float) -> float:
        """How probable a change as large would be, were the kernel slower by `limit` (a fraction) and no more."""
        return _tail(self.log_ratio - math.log1p(limit), self.below)

    def chance_faster(self, limit: float) -> float:
        """The same for a time that is shorter: by a factor of 1 + `limit`."""
        return _tail(-self.log_ratio - math.log1p(limit), self.above)


def drift(pairs: Sequence[tuple[Timing, Timing]]) -> float:
    """How much longer everything takes in the new run, as a logarithm: the median over the baselines of all shapes.

    Nothing is known from few shapes, and a machine is not taken to change by more than MOST_DRIFT: such baselines have
    moved on their own.
    """
    times = [(base.baseline_s, new.baseline_s) for base, new in pairs]
    changes = [math.log(now / before) for before, now in times if 0 < before < math.inf and 0 < now < math.inf]
    found = median(changes) if len(changes) >= SHAPES_FOR_DRIFT else 0.0
    return found if abs(found) <= math.log1p(MOST_DRIFT) else 0.0


def change_between(base: Timing, new: Timing, machine: float | None = 0.0) -> Change | None:
    """The candidate's change, both intervals added in quadrature; None where a speedup or an end is no number.

    Each speedup comes from calls that took turns with the baseline's, so a machine that is slower as a whole cancels.
    A baseline that has moved beside the machine (`machine`, see `drift`; None where times themselves cannot be
    compared) does not: then the change is the smaller of that of the speedup and that of the candidate's own time, and
    none where these point in different directions.
    """
    ends = [value for t in (base, new) for value in (t.speedup_low, t.speedup, t.speedup_high)]
    if not all(0 < value < math.inf for value in ends):
        return None
    base_low, base_at, base_high, new_low, new_at, new_high = map(math.log, ends)
    below = max(math.hypot(max(0.0, base_at - base_low), max(0.0, new_high - new_at)), _LEAST)
    above = max(math.hypot(max(0.0, base_high - base_at), max(0.0, new_at - new_low)), _LEAST)
    by_speedup = base_at - new_at
    times = (base.baseline_s, new.baseline_s, base.candidate_s, new.candidate_s)
    if machine is None or not all(0 < value < math.inf for value in times):
        return Change(by_speedup, below, above)
    if abs(math.log(new.baseline_s / base.baseline_s) - machine) <= max(math.log1p(MOVED), min(below, above)):
        return Change(by_speedup, below, above)
    own = math.log(new.candidate_s / base.candidate_s) - machine
    smaller = min(by_speedup, own, key=abs) if by_speedup * own > 0 else 0.0
    return Change(smaller, below, above, by_speedup)


def pooled(changes: Sequence[Change]) -> Change:
    """The mean change of several shapes of one operator, with its interval."""
    return Change(fmean(change.log_ratio for change in changes), _pooled_width([change.below for change in changes]),
                  _pooled_width([change.above for change in changes]))


def proven(chances: Sequence[float], level: float = FAMILY_LEVEL / 2) -> set[int]:
    """Which of the findings stand, given how probable each would be by chance (Benjamini and Hochberg's procedure).

    Where nothing has changed, any stands with a probability of `level`, however many there are; where something has,
    the false ones are that fraction of those that stand, in the mean.
    """
    order = sorted(range(len(chances)), key=lambda i: chances[i])
    last = max((rank for rank, i in enumerate(order, 1) if chances[i] <= level * rank / len(order)), default=0)
    return set(order[:last])


def student_tail(t: float) -> float:
    """Probability that Student's t with DEGREES degrees of freedom is above t."""
    angle = math.atan(t / math.sqrt(DEGREES))
    term = total = math.cos(angle)
    for k in range(2, DEGREES - 1, 2):
        term *= math.cos(angle) ** 2 * k / (k + 1)
        total += term
    return max(0.0, 0.5 - (angle + math.sin(angle) * total) / math.pi)


def _tail(excess: float, half_width: float) -> float:
    return student_tail(QUANTILE * excess / half_width)


def _pooled_width(half_widths: Sequence[float]) -> float:
    independent = sum(width**2 for width in half_widths) / len(half_widths) ** 2
    return math.sqrt(SHARED * fmean(half_widths) ** 2 + (1 - SHARED) * independent)
