"""A module on copies of its weights: each call with the copy that is its turn, and the module's own afterwards."""

import pytest
import torch
from torch import nn

from fastkernels.bench.isolate.sections import copies
from fastkernels.bench.isolate.sections.copies import can_be_moved, modules_on, moved_calls
from fastkernels.bench.isolate.sections.side import CannotBeTimedError


class Scale(nn.Module):
    def __init__(self, value=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), value))

    def forward(self, x):
        return x * self.weight


class Repacked(Scale):
    def process_weights_after_loading(self):
        self.doubled = self.weight.detach() * 2

    def forward(self, x):
        return x * self.doubled


def weights(*values):
    return [{"weight": torch.full((3,), float(value))} for value in values]


def called(calls):
    with torch.inference_mode():
        return [call(x=torch.ones(3)).tolist()[0] for call in calls]


def test_parameters_are_moved_to_each_copy_and_can_be_given_back():
    module = Scale()
    moved, calls = moved_calls(module, weights(1, 5, 7))
    assert called([calls[1], calls[2], calls[0], calls[1]]) == [5, 7, 1, 5]
    for tensor, own in moved:
        tensor.data = own
    assert module.weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("copy", "fits"), [
    ({"weight": torch.ones(3)}, True), ({"weight": torch.full((3,), 2.0)}, False), ({"weight": torch.ones(4)}, False),
    ({"weight": torch.ones(6)[::2]}, False), ({"weight": torch.ones(3), "bias": torch.ones(3)}, False), ({}, False),
], ids=["the same", "other values", "another shape", "other strides", "one more", "none"])
def test_parameters_are_moved_only_where_nothing_but_the_address_differs(copy, fits):
    assert can_be_moved(Scale(), copy) is fits


def test_what_keeps_something_of_its_weights_has_a_module_for_each_copy():
    assert called(modules_on(Repacked, weights(1, 5))) == [2, 10]


def test_copies_that_take_too_long_to_load_are_given_up(monkeypatch):
    monkeypatch.setattr(copies, "LOADING_S", -1.0)
    with pytest.raises(CannotBeTimedError, match="2 copies"):
        modules_on(Repacked, weights(1, 5))
