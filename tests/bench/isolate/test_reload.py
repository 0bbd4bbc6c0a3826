"""Other weights: every row is another one, all sides follow, and of large ones little is touched."""

import pytest
import torch
from results_by_hand import rms_norm
from torch import nn

from fastkernels.bench.grade import Judge
from fastkernels.bench.grade.outcome import CallOutcome
from fastkernels.bench.isolate.bits import same_bits, same_sample
from fastkernels.bench.isolate.reload import (
    LEAST_COLUMNS,
    SHARE,
    copy_columns,
    move_all,
    move_columns,
    repacks,
)
from fastkernels.runtime.invoke import invoke
from fastkernels.tasks.baseline.L1.linear import Linear

WIDTH = 4096


@pytest.fixture
def linear():
    module = Linear(WIDTH, 40, bias=True, dtype=torch.float32)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def copy_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_every_row_of_a_large_parameter_differs_in_a_few_columns(linear):
    before = copy_of(linear)
    columns = move_columns(linear)
    start, end = columns["weight"]
    assert end - start == WIDTH // SHARE
    differs = linear.weight != before["weight"]
    assert differs.any(dim=1).all()
    assert not differs[:, :start].any()
    assert not differs[:, end:].any()
    assert columns["bias"] == (0, 40)
    assert not torch.equal(linear.bias, before["bias"])


def test_the_elements_are_the_same_ones(linear):
    before = copy_of(linear)
    move_columns(linear)
    for name, tensor in linear.state_dict().items():
        assert torch.equal(tensor.flatten().sort().values, before[name].flatten().sort().values)


def test_what_copies_the_columns_alone_has_the_new_weights(linear):
    other = Linear(WIDTH, 40, bias=True, dtype=torch.float32)
    other.load_state_dict(linear.state_dict())
    for name, columns in move_columns(linear).items():
        copy_columns(other.state_dict()[name], linear.state_dict()[name], columns)
    assert all(same_bits(tensor, other.state_dict()[name]) for name, tensor in linear.state_dict().items())


def test_the_oracle_follows_and_what_was_kept_of_the_old_weights_is_wrong(linear):
    scenario = rms_norm()
    judge, x = Judge(linear, scenario), torch.randn(3, WIDTH)
    old = {"x": x}
    stale = invoke(linear, old)
    assert judge.judge(old, CallOutcome(stale, {"x": x})).verdict.ok
    judge.follow(move_columns(linear))
    assert judge.judge(old, CallOutcome(invoke(linear, old), {"x": x})).verdict.ok
    assert not judge.judge(old, CallOutcome(stale, {"x": x})).verdict.ok


def test_tied_weights_and_tables_move_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(8, LEAST_COLUMNS * 2))
            self.head = self.table
            self.register_buffer("angles", torch.randn(8, 64))

    module = Tied()
    before = copy_of(module)
    columns = move_columns(module)
    assert columns["table"] == columns["head"]
    assert "angles" not in columns
    assert (module.table != before["table"]).any(dim=1).all()
    assert torch.equal(module.angles, before["angles"])


def test_small_modules_move_whole(linear):
    before = copy_of(linear)
    move_all(linear)
    assert all((tensor != before[name]).float().mean() > 0.9 for name, tensor in linear.state_dict().items())
    assert not repacks(linear)


def test_a_sample_sees_a_change_where_it_looks():
    a = torch.zeros(4096, dtype=torch.uint8)
    assert same_sample(a, a.clone(), 64)
    assert not same_sample(a, a + 1, 64)
    assert not same_sample(a, torch.cat((a[:-1], a[:1] + 1)), 4096)
