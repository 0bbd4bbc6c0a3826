import pytest
import torch
from torch import nn

from fastkernels.bench.grade import CallOutcome, Draw, Judge, make_inputs
from fastkernels.bench.grade.effects import copies
from fastkernels.manifest.scenario import InputSpec
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
from fastkernels.tasks.baseline.L1.store_kvcache import StoreKVCache

X = InputSpec("x", "normal", ("tokens", 64), "bfloat16")
CACHES = (
    InputSpec("key", "normal", ("tokens", 2, 16), "bfloat16"),
    InputSpec("value", "normal", ("tokens", 2, 16), "bfloat16"),
    InputSpec("key_cache", "normal", (4, 16, 2, 16), "bfloat16"),
    InputSpec("value_cache", "normal", (4, 16, 2, 16), "bfloat16"),
    InputSpec("slot_mapping", "slot_mapping", ("tokens",), "int64", {"slots": 64}),
)  # fmt: skip


def norm():
    return RMSNorm(64, dtype=torch.bfloat16)


def test_a_changed_input_is_found(judged, scenario_of):
    def touch(_, after):
        after["x"][4, 63] += 1

    found = judged(norm(), scenario_of(X), touch)
    assert found.verdict is Verdict.MUTATED_INPUT
    assert found.message == "input x was changed, draw normal@t5#1"


def test_the_sign_of_zero_and_nan_payloads_count_in_inputs(judged, scenario_of):
    class Sum(Op):
        def forward_native(self, x):
            return x[1:] + 1

    def negate_zero(_, after):
        after["x"][0].neg_()

    assert judged(Sum(), scenario_of(X), hard="zeros").verdict is Verdict.PASSED
    assert judged(Sum(), scenario_of(X), negate_zero, hard="zeros").verdict is Verdict.MUTATED_INPUT


def test_a_changed_literal_is_found(judged, scenario_of):
    class Scale(Op):
        def forward_native(self, x, by):
            return x * by

    scenario = scenario_of(X, InputSpec("by", "literal", args={"value": 2}))
    assert judged(Scale(), scenario).verdict is Verdict.PASSED
    assert judged(Scale(), scenario, lambda _, after: after.update(by=3)).verdict is Verdict.MUTATED_INPUT


def test_changed_weights_and_canaries_are_reported(judged, scenario_of):
    found = judged(norm(), scenario_of(X), weights_changed=["weight"])
    assert (found.verdict, found.message) == (Verdict.MUTATED_WEIGHT, "weight weight was changed, draw normal@t5#1")
    found = judged(norm(), scenario_of(X), canaries=["x"])
    assert found.verdict is Verdict.OUT_OF_BOUNDS_WRITE
    assert found.message == "memory beside x was written, draw normal@t5#1"


def test_a_cache_written_alike_passes_padding_too(judged, scenario_of):
    for hard in ("normal", "ties", "zeros"):
        found = judged(StoreKVCache(), scenario_of(*CACHES, tokens=20), hard=hard)
        assert found.verdict is Verdict.PASSED, found.message


def test_a_missed_write_is_found(judged, scenario_of):
    def forget(_, after):
        slot = int(after["slot_mapping"][3])
        after["value_cache"].view(-1, 2, 16)[slot] = 0.5

    found = judged(StoreKVCache(), scenario_of(*CACHES), forget)
    assert found.verdict is Verdict.MISSED_WRITE
    assert found.message.startswith("input value_cache (element ")


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_zeros_left_unwritten_are_found(scenario_of, seed):
    """Two of three rows are zeros, and in some draws both go to pages that hold zeros but for the marks."""
    scenario, draw = scenario_of(*CACHES), Draw("zeros@t3#7", 3, seed, "zeros")
    inputs = make_inputs(scenario, draw, torch.device("cpu"))
    after = copies(inputs)
    StoreKVCache()(**after)
    slots = inputs["slot_mapping"][::2]
    cache, before = (values["key_cache"].view(-1, 2, 16) for values in (after, inputs))
    assert not cache[slots].any()
    cache[slots] = before[slots]
    assert Judge(StoreKVCache(), scenario).judge(inputs, CallOutcome(None, after), draw).verdict is Verdict.MISSED_WRITE


def test_a_stray_write_within_the_tolerance_is_found(judged, scenario_of):
    """A slot that nothing was due for, changed by less than the tolerance."""
    def stray(_, after):
        free = next(slot for slot in range(64) if slot not in after["slot_mapping"].tolist())
        row = after["key_cache"].view(-1, 2, 16)[free, 1]
        row.mul_(1.005)

    found = judged(StoreKVCache(), scenario_of(*CACHES), stray)
    assert found.verdict is Verdict.MUTATED_INPUT
    assert "written where the baseline writes nothing" in found.message


def test_a_candidate_that_writes_nothing_is_found(scenario_of):
    scenario, draw = scenario_of(*CACHES), Draw("normal@t5#1", 5, 11, "normal")
    inputs = make_inputs(scenario, draw, torch.device("cpu"))
    found = Judge(StoreKVCache(), scenario).judge(inputs, CallOutcome(None, copies(inputs)), draw)
    assert found.verdict is Verdict.MISSED_WRITE
    assert found.message.startswith("input key_cache (element ")


def test_mutated_integers_are_exact(judged, scenario_of):
    class Count(Op):
        def forward_native(self, ids):
            ids += 1

    scenario = scenario_of(InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 9}))
    assert judged(Count(), scenario).verdict is Verdict.PASSED
    found = judged(Count(), scenario, lambda _, after: after["ids"].add_(1))
    assert found.verdict is Verdict.MISSED_WRITE
    assert "input ids (element 0): expected" in found.message


def test_a_module_that_is_no_op_is_judged_too(judged, scenario_of):
    class Plain(nn.Module):
        def forward(self, x):
            return x * 2

    assert judged(Plain(), scenario_of(X)).verdict is Verdict.PASSED
