"""Outputs as plain data and back."""

import pytest
import torch

from fastkernels.bench.isolate.protocol import ProtocolError
from fastkernels.bench.isolate.tree import MAX_LEAVES, Foreign, describe, rebuild


class Tagged(torch.Tensor):
    pass


@pytest.mark.parametrize("value", [
    None, torch.zeros(2), (torch.zeros(2), None), [torch.zeros(1), (torch.zeros(2), torch.ones(3))],
    {"out": torch.zeros(2), "more": [torch.ones(1)]}, (), torch.nn.Parameter(torch.zeros(1)),
])
def test_trees_of_plain_tensors_are_rebuilt(value):
    leaves: list[torch.Tensor] = []
    node = describe(value, leaves)
    rebuilt = rebuild(node, leaves, set())
    assert describe(rebuilt, []) == node
    assert type(rebuilt) is type(value)


@pytest.mark.parametrize("value", [
    3.0, "text", torch.zeros(2).as_subclass(Tagged), torch.eye(2).to_sparse(), object(), {1: torch.zeros(1)},
])
def test_everything_else_becomes_foreign(value):
    leaves: list[torch.Tensor] = []
    assert isinstance(rebuild(describe(value, leaves), leaves, set()), Foreign)
    assert leaves == []


def test_a_tree_without_end_and_a_crowd_of_tensors_are_cut():
    endless: list[object] = []
    endless.append(endless)
    assert "other" in str(describe(endless, []))
    leaves: list[torch.Tensor] = []
    describe([torch.zeros(1)] * (MAX_LEAVES + 5), leaves)
    assert len(leaves) == MAX_LEAVES


def test_a_tensor_of_another_device_is_rebuilt_there():
    node = {"kind": "tensor", "leaf": 0, "device": "meta"}
    assert rebuild(node, [torch.zeros(2)], set()).device.type == "meta"


@pytest.mark.parametrize("node", [
    None, [], {}, {"kind": "tensor"}, {"kind": "tensor", "leaf": 1, "device": "cpu"},
    {"kind": "tensor", "leaf": -1, "device": "cpu"}, {"kind": "tensor", "leaf": True, "device": "cpu"},
    {"kind": "tensor", "leaf": 0, "device": "evil"}, {"kind": "tuple"}, {"kind": "dict", "items": []},
    {"kind": "tuple", "items": [{"kind": "tensor", "leaf": 0, "device": "cpu"}] * 2},
])
def test_a_forged_tree_is_refused(node):
    with pytest.raises(ProtocolError):
        rebuild(node, [torch.zeros(1)], set())
