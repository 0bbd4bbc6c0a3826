"""Grades nothing: verdicts come from `fake.json` in the working directory, `{"part of an address": "verdict"}`;
`gate NAME` passes and fails that deployment gate.

Tests of the plugin's surface copy this file as the conftest.py of their own project.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from fastkernels.manifest import Scenario
from fastkernels.results import (
    Correctness,
    GateOutcome,
    GateResult,
    LeftOut,
    ScenarioResult,
    Timing,
    Verdict,
    WorstElement,
)


class FakeGrader:
    device = "cpu"

    def __init__(self, session: Any) -> None:
        self.session = session
        self.plan = json.loads(Path("fake.json").read_text()) if Path("fake.json").exists() else {}
        self.shapes: dict[str, str] = {}

    def left_out(self, scenario: Scenario) -> LeftOut | None:
        large = scenario.tokens > 512 and scenario.tokens not in self.session.settings.seqlen
        return LeftOut(scenario.id, f"{scenario.tokens} tokens on a CPU (over 512)") if large else None

    def grade(self, scenario: Scenario) -> ScenarioResult:
        with open("graded.txt", "a") as file:
            file.write(f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')} {scenario.id}\n")
        found = next((word for part, word in self.plan.items() if part in scenario.id), "passed")
        if found == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if found == "broken":
            raise RuntimeError("the harness itself broke")
        if found == "slow":
            time.sleep(2.5)
            found = "passed"
        gate, found = (found.removeprefix("gate "), "passed") if found.startswith("gate ") else ("", found)
        verdict = Verdict(found)
        shared = self.shapes.setdefault(scenario.shape_key, scenario.id)
        settings = self.session.settings
        return ScenarioResult(
            id=scenario.id, op=scenario.op, level=scenario.level, model=scenario.model, model_id=scenario.model_id,
            tp=scenario.tp, tokens=scenario.tokens, phase=scenario.phase, variant=scenario.variant,
            category=scenario.category, shape_key=scenario.shape_key, verdict=verdict,
            message="" if verdict.ok else "1 of 4096 elements is outside the tolerance", device="cpu",
            baseline_provider="native", self_test=self.session.plan.self_test,
            shared_with=None if shared == scenario.id else shared,
            candidate_path=None if self.session.plan.self_test else "candidates/L1/rms_norm.py",
            correctness=Correctness(0.0078, 0.3 if verdict.correct else 77.0, 1e-3, 1e-3, 0.01, 0.016, 5,
                                    WorstElement("output", (3, 4095), 1.25, 0.0), "normal@t8#1"),
            timing=timing() if verdict.correct and not settings.no_timing else None,
            gates=gates(gate) if gate else {}, evidence="" if verdict.ok else "\n".join(f"line {i}" for i in range(30)),
            seed=self.session.run.seed, wall_s=0.25)

    def environment(self) -> dict[str, Any]:
        return {"machine": "fake"}

    def close(self) -> None:
        with open("graded.txt", "a") as file:
            file.write("closed\n")


def gates(failing: str) -> dict[str, GateResult]:
    found = {"strided": GateResult(GateOutcome.PASSED), "compile": GateResult(GateOutcome.PASSED),
             "stream": GateResult(GateOutcome.NOT_APPLICABLE, "needs CUDA")}
    return {**found, failing: GateResult(GateOutcome.FAILED, "forward raised ValueError: not this way")}


def timing() -> Timing:
    return Timing(method="wall", baseline_s=1.5e-5, candidate_s=1e-5, speedup=1.5, speedup_low=1.4, speedup_high=1.6,
                  runs=3, stopped="num_runs", baseline_eager_s=2e-5, candidate_eager_s=1.2e-5,
                  baseline_witness_s=1.5e-5, candidate_witness_s=1e-5, bytes=1 << 20, flops=1 << 20, roofline_s=2e-6,
                  baseline_roofline=2 / 15, candidate_roofline=0.2, baseline_samples_s=(1.4e-5, 1.5e-5, 1.6e-5),
                  candidate_samples_s=(0.9e-5, 1e-5, 1.1e-5))


def pytest_fastkernels_grader(session: Any) -> FakeGrader:
    return FakeGrader(session)
