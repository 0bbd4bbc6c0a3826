"""Correctness: draws, oracle, comparison; no timing."""

from fastkernels.bench.grade.clear_rows import clear_choices
from fastkernels.bench.grade.draws import Draw, plan_draws
from fastkernels.bench.grade.effects import donated
from fastkernels.bench.grade.inputs import make_inputs
from fastkernels.bench.grade.judge import Judge
from fastkernels.bench.grade.outcome import CallOutcome, Finding, merge
from fastkernels.bench.grade.task_check import check_task
from fastkernels.bench.grade.tolerances import tolerances
from fastkernels.bench.grade.weights import randomise_weights

__all__ = [
    "CallOutcome",
    "Draw",
    "Finding",
    "Judge",
    "check_task",
    "clear_choices",
    "donated",
    "make_inputs",
    "merge",
    "plan_draws",
    "randomise_weights",
    "tolerances",
]
