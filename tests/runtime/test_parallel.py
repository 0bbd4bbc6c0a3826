"""The tensor parallel group, shares of it, and modules that a model's layers share."""

import copy

import pytest
import torch

from fastkernels.errors import ModelError
from fastkernels.runtime.parallel import MirroredRank, OneRank, ProcessGroup, divide, set_tp_group, tp_group
from fastkernels.runtime.sharing import shared, sharing


def test_divide():
    assert divide(12, 4, "heads") == 3
    with pytest.raises(ModelError, match="heads: 12 cannot be shared out evenly to 5 tensor parallel ranks"):
        divide(12, 5, "heads")


def test_the_group_is_set_within_a_block():
    assert tp_group().size == 1
    with set_tp_group(OneRank(2, 4)):
        assert (tp_group().rank, tp_group().size) == (2, 4)
    assert tp_group().size == 1
    with pytest.raises(ModelError), set_tp_group(OneRank(2, 4)):
        divide(1, tp_group().size, "heads")
    assert tp_group().size == 1


def test_peers_are_stood_for_by_the_ranks_own_part():
    x = torch.tensor([[1.0], [2.0]])
    alone, one_of_three = MirroredRank(), MirroredRank(1, 3)
    assert one_of_three.all_gather(x).tolist() == [[-2, 1, -2], [-4, 2, -4]]
    assert alone.all_gather(x).tolist() == x.tolist()
    assert alone.all_reduce(x) is x
    assert one_of_three.all_reduce(x) is x
    assert x.tolist() == [[-2], [-4]]


def exchange():
    group = tp_group()
    assert isinstance(group, ProcessGroup)
    assert copy.deepcopy(group) is group
    x = torch.tensor([[1.0], [2.0]]) + 10 * group.rank
    return group.all_gather(x), group.all_reduce(x.clone())


def test_ranks_exchange(ranks):
    for gathered, reduced in ranks.call(exchange):
        assert gathered.tolist() == [[1, 11], [2, 12]]
        assert reduced.tolist() == [[12], [14]]


def test_one_object_a_key_within_a_block():
    with sharing():
        first = shared("a", list)
        assert shared("a", list) is first
        assert shared("b", list) is not first
        with sharing():
            assert shared("a", list) is first
    with sharing():
        assert shared("a", list) is not first
    assert shared("a", list) is not shared("a", list)
