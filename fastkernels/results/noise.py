"""Why there is no time where outputs were right: a machine too busy for one, or a time that contradicts itself."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastkernels.results.kernel import ScenarioResult, Timing

MOST_APART = 2.0
"""The ends of an interval may be this factor apart: what holds twice and half of a speedup says nothing."""
MOST_BESIDE = 1.1
"""The ratio of the medians may lie outside the interval by this factor: they are other means of the same samples."""


@dataclass(frozen=True)
class Noise:
    """What kept a scenario from being timed; shown as `noisy` where its speedup would stand."""

    reason: str
    """One line: what was disturbed, and how it was seen."""
    rounds: int = 0
    """Timed rounds that were run; 0 where it came to none."""
    disturbed_rounds: int = 0
    """Rounds among them that other load disturbed."""
    busy_cores: float | None = None
    """Cores that other processes took meanwhile, what the hypervisor took counts; None where nothing tells."""


def contradiction(timing: "Timing") -> str:
    """Say how medians, speedup and interval of one timing disagree, or return an empty string.

    Only disturbed rounds do that: the three are taken from the same samples. A speedup or an end that is no positive
    number is no matter of noise and is left to others.
    """
    low, speedup, high = timing.speedup_low, timing.speedup, timing.speedup_high
    if not all(0 < value < math.inf for value in (low, speedup, high, timing.baseline_s, timing.candidate_s)):
        return ""
    ends = f"the 95 % interval, {low:.3g} to {high:.3g},"
    if high > MOST_APART * low:
        return f"{ends} has ends more than a factor of {MOST_APART:g} apart"
    if not low <= speedup <= high:
        return f"{ends} does not hold the speedup, {speedup:.3g}"
    medians = timing.baseline_s / timing.candidate_s
    if not low / MOST_BESIDE <= medians <= high * MOST_BESIDE:
        return f"the ratio of the medians, {medians:.3g}, is not within {ends[:-1]} of the speedup, {speedup:.3g}"
    return ""


def believable(result: "ScenarioResult") -> "ScenarioResult":
    """The result, its timing replaced by noise where that contradicts itself: runs of older versions kept such."""
    doubt = contradiction(result.timing) if result.timing else ""
    return replace(result, timing=None, noise=Noise(doubt)) if doubt else result
