"""Timers, schedules, statistics and roofline; no grading. Nothing imported here needs torch."""

from fastkernels.bench.timing.comparison import Comparison
from fastkernels.bench.timing.environment import describe_environment
from fastkernels.bench.timing.roofline import Peaks, floor_s, roofline_s
from fastkernels.bench.timing.schedule import BadSamplesError, Lane, NoisyError, TimingPlan, compare
from fastkernels.bench.timing.statistics import Interval
from fastkernels.bench.timing.witness import Trouble, check_times, too_fast

__all__ = [
    "BadSamplesError",
    "Comparison",
    "Interval",
    "Lane",
    "NoisyError",
    "Peaks",
    "TimingPlan",
    "Trouble",
    "check_times",
    "compare",
    "describe_environment",
    "floor_s",
    "roofline_s",
    "too_fast",
]
