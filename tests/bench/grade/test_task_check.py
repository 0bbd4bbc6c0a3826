import pytest
import torch

from fastkernels.bench.grade import check_task, randomise_weights
from fastkernels.manifest.scenario import InputSpec
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
from fastkernels.tasks.baseline.L1.store_kvcache import StoreKVCache

X = InputSpec("x", "normal", ("tokens", 64), "bfloat16")


def op(function):
    return type("Made", (Op,), {"forward_native": lambda self, x: function(x)})()


@pytest.mark.parametrize(("function", "reason"), [
    (lambda x: torch.ones_like(x), "output is the same for other inputs"),
    (lambda x: x.sum().sign().abs() + torch.zeros_like(x) + x[0, 0], "output is constant"),
    (lambda x: x * 1e-4, "output lies under the tolerance: largest value"),
    (lambda x: 5 + x * 1e-2, "output is the same within the tolerance for other inputs"),
    (lambda x: x[:0], "output is empty"),
    (lambda x: (x, x * 1e-4), "output[1] lies under the tolerance"),
    (lambda x: None, "the baseline returns no tensor and changes no input"),
])
def test_a_task_that_tells_nothing_is_found(scenario_of, function, reason):
    found = check_task(op(function), scenario_of(X))
    assert found is not None
    assert found.verdict is Verdict.TASK_INVALID
    assert reason in found.message


def test_tasks_that_tell_something_pass(scenario_of):
    module = RMSNorm(64, dtype=torch.bfloat16)
    randomise_weights(module, 1)
    assert check_task(module, scenario_of(X)) is None
    assert check_task(op(lambda x: (x * 2, torch.ones_like(x))), scenario_of(X)) is None


def test_a_written_input_counts_as_output(scenario_of):
    caches = [InputSpec(name, "normal", shape, "bfloat16") for name, shape in (
        ("key", ("tokens", 2, 16)), ("value", ("tokens", 2, 16)), ("key_cache", (4, 16, 2, 16)),
        ("value_cache", (4, 16, 2, 16)))]
    slots = InputSpec("slot_mapping", "slot_mapping", ("tokens",), "int64", {"slots": 64})
    assert check_task(StoreKVCache(), scenario_of(*caches, slots)) is None


def test_a_task_whose_truth_is_not_finite_is_found(scenario_of):
    for value in (float("nan"), float("inf")):
        found = check_task(op(lambda x, value=value: x * value), scenario_of(X))
        assert found is not None
        assert "is NaN or infinite" in found.message
