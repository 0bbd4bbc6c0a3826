"""Medians and the speedup's confidence interval, from rounds in which baseline and candidate took turns."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev

CONFIDENCE = 0.95
"""Coverage of every interval."""
_T_QUANTILE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
"""Student's t, two-sided 95 %, for the few rounds at which the signed-rank interval does not exist yet."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance between the ends."""
        return (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Return whether the value lies inside, ends included."""
        return self.low <= value <= self.high


def typical(samples: Sequence[float]) -> float:
    """Mean of the samples between the 10th and the 70th percentile.

    Noise only ever adds to a time, so more is cut above than below; what is left is averaged and so, other than a
    median, not tied to the steps of a coarse clock. Compared with both in docs/timing.md.
    """
    ordered = sorted(samples)
    first, end = int(0.1 * len(ordered)), round(0.7 * len(ordered))
    return fmean(ordered[first : max(end, first + 1)])


def short(samples: Sequence[float]) -> float:
    """The tenth percentile: what a call takes while nothing disturbs it."""
    return sorted(samples)[len(samples) // 10]


def log_ratios(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> list[float]:
    """Per round, the logarithm of baseline time over candidate time."""
    return [math.log(typical(b) / typical(c)) for b, c in zip(baseline, candidate, strict=True)]


def location_interval(values: Sequence[float]) -> Interval:
    """Centre of the values with its 95 % interval, for at least two values.

    From six values on: Hodges and Lehmann's estimate with the exact interval of Wilcoxon's signed-rank test, which
    asks for a symmetric distribution only and so is not undone by the outliers of a busy machine. Below six that
    interval does not exist and Student's is taken.
    """
    count = len(values)
    if count < 2:
        raise ValueError(f"an interval needs two rounds; {count} given")
    if count < 6:
        mean, half = fmean(values), _T_QUANTILE[count - 1] * stdev(values) / math.sqrt(count)
        return Interval(mean, mean - half, mean + half)
    walsh = sorted((values[i] + values[j]) / 2 for i in range(count) for j in range(i, count))
    outside = _signed_rank_critical(count)
    return Interval(median(walsh), walsh[outside], walsh[-1 - outside])


def speedup_interval(log_ratio: Interval, baseline_spread: float, candidate_spread: float) -> Interval:
    """Speedup with both kinds of uncertainty: what the rounds show and what they cannot.

    Rounds within one pair of processes do not show what a process keeps for its life (placement of its memory, state
    of the driver) or what the clock cannot resolve. Those relative standard deviations, known from experiments with
    fresh processes, are added in quadrature, as the Guide to the Expression of Uncertainty does with its types A, B.
    """
    unseen = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * math.hypot(baseline_spread, candidate_spread)
    below = math.hypot(log_ratio.estimate - log_ratio.low, unseen)
    above = math.hypot(log_ratio.high - log_ratio.estimate, unseen)
    return Interval(*(math.exp(log_ratio.estimate + shift) for shift in (0.0, -below, above)))


@functools.cache
def _signed_rank_critical(count: int) -> int:
    """Critical value of the signed-rank test, the largest k with P(W <= k) <= 2.5 %.

    As many of the sorted Walsh averages lie outside the interval at each end.
    """
    ways = [1]
    for rank in range(1, count + 1):
        longer = ways + [0] * rank
        for index, number in enumerate(ways):
            longer[index + rank] += number
        ways = longer
    limit = (1 - CONFIDENCE) / 2 * 2**count
    below, critical = ways[0], -1
    while below <= limit:
        critical += 1
        below += ways[critical + 1]
    return critical
