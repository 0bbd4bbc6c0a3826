"""Verdicts and results: the one form behind the JSON files, the tables, tracking and the agent's feedback."""

from fastkernels.results.evaluation import EvalReport, EvalRow
from fastkernels.results.files import json_safe, json_schema, read_result, to_json, write_result
from fastkernels.results.gates import Gate, GateOutcome, GateResult
from fastkernels.results.kernel import (
    SCHEMA_VERSION,
    Correctness,
    KernelBenchResult,
    KernelSource,
    LeftOut,
    ScenarioResult,
    Subsumed,
    Timing,
    Verdict,
    WorstElement,
)
from fastkernels.results.noise import Noise, believable, contradiction

__all__ = [
    "SCHEMA_VERSION",
    "Correctness",
    "EvalReport",
    "EvalRow",
    "Gate",
    "GateOutcome",
    "GateResult",
    "KernelBenchResult",
    "KernelSource",
    "LeftOut",
    "Noise",
    "ScenarioResult",
    "Subsumed",
    "Timing",
    "Verdict",
    "WorstElement",
    "believable",
    "contradiction",
    "json_safe",
    "json_schema",
    "read_result",
    "to_json",
    "write_result",
]
