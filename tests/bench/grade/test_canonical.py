"""Ties of topk_softmax: any choice among equals is right, nothing else is."""

import pytest
import torch

from fastkernels.bench.grade import CallOutcome, Draw, Judge, make_inputs
from fastkernels.manifest.scenario import InputSpec
from fastkernels.results import Verdict
from fastkernels.tasks.baseline.L1.topk_softmax import TopKSoftmax


def judge(scenario_of, change, hard="ties", tokens=9, experts=16, top_k=4):
    module = TopKSoftmax(top_k)
    scenario = scenario_of(InputSpec("gating_output", "normal", ("tokens", experts), "bfloat16"), tokens=tokens)
    draw = Draw(f"{hard}@t{tokens}#1", tokens, 5, hard)
    inputs = make_inputs(scenario, draw, torch.device("cpu"))
    outputs = change(inputs["gating_output"], *module(**inputs))
    return Judge(module, scenario).judge(inputs, CallOutcome(outputs, dict(inputs)), draw)


def from_softmax(logits, weights, ids):
    """As kernels do that pick from the softmax, ties to the higher expert."""
    chances, picked = torch.softmax(logits.float().flip(-1), dim=-1).sort(dim=-1, descending=True, stable=True)
    chances, picked = chances[:, :4], logits.shape[1] - 1 - picked[:, :4]
    return chances / chances.sum(-1, keepdim=True), picked.to(torch.int32)


@pytest.mark.parametrize("hard", ["normal", "ties", "large", "zeros", "tiny", "mixed"])
def test_ties_may_be_settled_otherwise(scenario_of, hard):
    found = judge(scenario_of, from_softmax, hard)
    assert found.verdict is Verdict.PASSED, found.message


def test_ids_off_by_one_are_wrong(scenario_of):
    found = judge(scenario_of, lambda _, w, i: (w, (i + 1) % 16), "normal")
    assert found.verdict is Verdict.WRONG_INTEGERS
    assert found.message.startswith("output[1] (element 0, 0): expected ")


def test_one_expert_twice_is_wrong(scenario_of):
    """The first row is all ties, so that each id by itself would be right."""
    def change(_, weights, ids):
        ids[0] = ids[0, 0].clone()
        return weights, ids

    assert judge(scenario_of, change).verdict is Verdict.WRONG_INTEGERS


@pytest.mark.parametrize("wrong", [-1, 16, 2**30])
def test_an_expert_that_is_none_is_wrong(scenario_of, wrong):
    def change(_, weights, ids):
        ids[0, 1] = wrong
        return weights, ids

    assert judge(scenario_of, change).verdict is Verdict.WRONG_INTEGERS


def test_the_next_best_expert_is_wrong(scenario_of):
    def change(logits, weights, ids):
        ids[:, 3] = logits.float().sort(dim=-1, descending=True).indices[:, 4].to(torch.int32)
        return weights, ids

    assert judge(scenario_of, change, "normal").verdict is Verdict.WRONG_INTEGERS


def test_wrong_weights_with_right_ids_are_wrong(scenario_of):
    found = judge(scenario_of, lambda _, w, i: (w.bfloat16().float(), i), "normal")
    assert found.verdict is Verdict.WRONG_VALUES
