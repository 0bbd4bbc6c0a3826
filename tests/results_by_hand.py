"""Scenarios and results built by hand, small enough for a test."""

from dataclasses import replace

from fastkernels.manifest import InputSpec, Scenario
from fastkernels.results import Correctness, ScenarioResult, Timing, Verdict, WorstElement

HANG_S = 4.0
"""How long tests wait for a call that hangs on a CPU, and any other at most: several seconds on the busiest machine."""


def rms_norm(tokens=4, hidden=32, model="tiny", residual=False, dtype="bfloat16"):
    spec = {"values": "normal", "shape": ("tokens", hidden), "dtype": dtype}
    names = ("x", "residual") if residual else ("x",)
    return Scenario(
        op="rms_norm", module="rms_norm", class_name="RMSNorm", level=1, category="llm", model=model,
        model_id=f"test/{model}", tp=1, tokens=tokens, phase="decode", variant="residual" if residual else "",
        init={"hidden_size": hidden, "eps": 1e-5, "dtype": dtype},
        inputs=tuple(InputSpec(name=name, **spec) for name in names))


def silu_and_mul(tokens=4, hidden=32):
    x = InputSpec(name="x", values="normal", shape=("tokens", 2 * hidden), dtype="bfloat16")
    return Scenario(op="silu_and_mul", module="silu_and_mul", class_name="SiluAndMul", level=1, category="llm",
                    model="tiny", model_id="test/tiny", tp=1, tokens=tokens, phase="decode", variant="", init={},
                    inputs=(x,))


def passed(scenario=None, **changes):
    scenario = scenario or rms_norm()
    result = ScenarioResult(
        id=scenario.id, op=scenario.op, level=1, model=scenario.model, model_id=scenario.model_id, tp=1,
        tokens=scenario.tokens, phase="decode", variant="", category="llm", shape_key=scenario.shape_key,
        verdict=Verdict.PASSED, message="", device="cpu", baseline_provider="native",
        correctness=Correctness(0.001, 0.1, 1e-3, 1e-3, 0.01, 0.016, 9, WorstElement("out", (0, 3), 1.0, 1.001), "n"),
        timing=Timing("wall", 2e-6, 1e-6, 2.0, 1.9, 2.1, 20, "interval", 2e-6, 1e-6, 2e-6, 1e-6, 100, 10, 1e-7, 0.05,
                      0.1, (2e-6,) * 3, (1e-6,) * 3))
    return replace(result, **changes)
