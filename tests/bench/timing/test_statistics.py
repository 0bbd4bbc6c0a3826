import math
import random

import pytest

from fastkernels.bench.timing.instruments import WALL
from fastkernels.bench.timing.statistics import (
    Interval,
    location_interval,
    log_ratios,
    speedup_interval,
    typical,
)


def test_typical_is_the_mean_between_the_10th_and_the_70th_percentile():
    assert typical([10, 1, 2, 3, 4, 5, 6, 7, 8, 9]) == pytest.approx((2 + 3 + 4 + 5 + 6 + 7) / 6)
    assert typical([5.0]) == 5.0
    assert typical([1.0, 3.0]) in (1.0, 2.0)


def test_typical_ignores_interruptions_and_resolves_below_the_step_of_the_clock():
    assert typical([1.0] * 8 + [50.0, 90.0]) == 1.0
    assert 96 < typical([96, 96, 96, 96, 96, 128, 128, 128, 128, 128]) < 128


def test_signed_rank_interval_matches_published_values():
    # n = 6: P(W = 0) = 1/64, so the interval is the range. n = 10: critical value 8 (two-sided 5 %), the ninth average.
    assert location_interval([1, 2, 3, 4, 5, 7]) == Interval(3.5, 1, 7)
    values = [1.0, 2.5, 4.1, 5.9, 8.3, 11.7, 16.2, 22.8, 30.1, 40.6]
    walsh = sorted((values[i] + values[j]) / 2 for i in range(10) for j in range(i, 10))
    found = location_interval(values)
    assert (found.low, found.high) == (walsh[8], walsh[-9])


def test_student_interval_below_six_values():
    found = location_interval([1.0, 2.0, 3.0])
    assert found.estimate == 2.0
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)


def test_one_round_gives_no_interval():
    with pytest.raises(ValueError, match="needs two rounds; 1 given"):
        location_interval([1.0])


def simulate(slower: float, rng: random.Random, rounds: int = 10, calls: int = 10) -> Interval:
    """Rounds of skewed samples in which each side has its own noise from round to round; log ratios' interval."""
    def side(scale: float) -> list[list[float]]:
        def one_round() -> list[float]:
            level = scale * (1 + rng.gauss(0, 0.004))
            return [level * (1 + rng.expovariate(1 / 0.02)) for _ in range(calls)]
        return [one_round() for _ in range(rounds)]
    return location_interval(log_ratios(side(1.0), side(1.0 + slower)))


@pytest.mark.parametrize("rounds", [3, 6, 10, 20])
def test_interval_of_equal_sides_holds_one_in_95_percent_of_runs(rounds):
    rng, runs = random.Random(rounds), 1000
    held = sum(simulate(0.0, rng, rounds).holds(0.0) for _ in range(runs)) / runs
    assert held >= 0.93  # 95 % less three standard errors of the simulation


def test_interval_is_not_needlessly_wide():
    rng = random.Random(1)
    widths = [simulate(0.0, rng).half_width for _ in range(200)]
    assert sum(widths) / len(widths) < 0.008


def test_five_percent_slower_is_found():
    rng = random.Random(2)
    assert all(simulate(0.05, rng).high < 0 for _ in range(200))


def test_process_effect_is_covered_only_with_the_spread_that_rounds_cannot_show():
    rng, runs = random.Random(3), 400
    spread = WALL.relative_spread(1e-4)
    blind = honest = 0
    for _ in range(runs):
        rounds = simulate(math.exp(rng.gauss(0, spread) - rng.gauss(0, spread)) - 1, rng, rounds=40)
        blind += rounds.holds(0.0)
        honest += speedup_interval(rounds, spread, spread).holds(1.0)
    assert honest / runs >= 0.92
    assert blind / runs < 0.90


def test_speedup_interval_is_never_narrower_than_the_clock():
    exact = Interval(0.0, 0.0, 0.0)
    spread = WALL.relative_spread(2e-6)
    found = speedup_interval(exact, spread, spread)
    assert found.estimate == 1.0
    assert found.half_width * 2e-6 > WALL.resolution_s / math.sqrt(12)


def test_log_ratio_over_zero_means_a_faster_candidate():
    assert log_ratios([[2.0, 2.0]], [[1.0, 1.0]]) == [pytest.approx(math.log(2))]
