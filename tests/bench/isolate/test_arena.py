"""Tensors in shared memory, guard bands, and distrust of what the other side says about it."""

import os

import pytest
import torch

from fastkernels.bench.isolate.arena import Arena, FileMemory
from fastkernels.bench.isolate.files import create_file
from fastkernels.bench.isolate.protocol import ProtocolError
from fastkernels.bench.isolate.slots import GUARD_BYTES, Slot, end_of, plan_slots


@pytest.fixture
def sides():
    """Trusted and candidate's view of one memory file."""
    fd = create_file()
    yield Arena(FileMemory(fd)), Arena(FileMemory(fd))
    os.close(fd)


def share(sides, tensors):
    trusted, candidate = sides
    slots = trusted.write(tensors)
    candidate.follow(trusted.reference())
    return {slot.name: candidate.tensor(Slot.from_dict(slot.to_dict())) for slot in slots}


def tensors():
    return {"x": torch.randn(3, 5, dtype=torch.bfloat16), "ids": torch.arange(7), "flag": torch.tensor(True),
            "none": torch.empty(0, 4), "strided": torch.randn(4, 12)[:, 2:7], "turned": torch.randn(4, 6).t()}


def test_both_sides_see_the_same_values_shapes_and_strides(sides):
    written = tensors()
    for name, seen in share(sides, written).items():
        assert torch.equal(seen, written[name])
        assert seen.dtype == written[name].dtype
        assert seen.numel() == 0 or seen.stride() == written[name].stride()
    assert sides[0].damaged() is None


def test_writing_every_element_of_every_tensor_damages_nothing(sides):
    for seen in share(sides, tensors()).values():
        seen.fill_(1)
    assert sides[0].damaged() is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int16])
def test_gaps_hold_numbers_as_other_heads_do(sides, dtype):
    seen = share(sides, {"x": torch.zeros(50, 40, dtype=dtype)[:, :7]})["x"]
    gaps = torch.as_strided(seen, (49, 33), (40, 1), seen.storage_offset() + 7)
    assert gaps.unique().numel() > 100
    if dtype.is_floating_point:
        assert 0.5 <= float(gaps.abs().min()) < float(gaps.abs().max()) < 2
        assert 0.3 < float((gaps > 0).float().mean()) < 0.7
    assert sides[0].damaged() is None
    gaps[48, 32] += 1
    assert sides[0].damaged() == "x"


@pytest.mark.parametrize("before", [True, False])
def test_one_byte_beside_a_tensor_is_noticed(sides, before):
    seen = share(sides, {"a": torch.zeros(4), "x": torch.zeros(5, dtype=torch.uint8), "z": torch.zeros(3)})["x"]
    beside = torch.as_strided(seen, (1,), (1,), seen.storage_offset() + (-1 if before else 5))
    beside += 1
    assert sides[0].damaged() == ("a" if before else "x")


def test_a_write_beyond_the_last_tensor_is_noticed(sides):
    seen = share(sides, {"x": torch.zeros(5, dtype=torch.uint8)})["x"]
    torch.as_strided(seen, (GUARD_BYTES,), (1,), seen.storage_offset() + 5).fill_(7)
    assert sides[0].damaged() == "x"


def test_a_write_into_the_gap_between_rows_is_noticed(sides):
    seen = share(sides, {"x": torch.zeros(4, 12)[:, 2:7]})["x"]
    torch.as_strided(seen, (1,), (1,), seen.storage_offset() + 6).fill_(float("nan"))
    assert sides[0].damaged() == "x"


def test_the_arena_grows_and_both_follow(sides):
    share(sides, {"x": torch.zeros(4)})
    big = torch.arange(3_000_000)
    assert torch.equal(share(sides, {"big": big})["big"], big)


def test_tensors_of_the_first_mapping_outlive_growth(sides):
    small = share(sides, {"x": torch.ones(4)})["x"]
    share(sides, {"big": torch.zeros(3_000_000)})
    assert small.shape == (4,)


def test_a_released_arena_can_be_written_again(sides):
    share(sides, {"x": torch.ones(1000)})
    sides[0].release()
    assert share(sides, {"x": torch.ones(1000)})["x"].sum() == 1000


def test_the_file_cannot_be_cut_under_the_trusted_side():
    fd = create_file()
    memory = FileMemory(fd)
    memory.grow(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_outputs_that_do_not_fit_are_not_copied(sides):
    trusted, candidate = sides
    trusted.reserve(1)
    candidate.follow(trusted.reference())
    assert candidate.place({"0": torch.zeros(1_000_000)}) is None
    placed = candidate.place({"0": torch.arange(5)})
    assert placed is not None
    assert torch.equal(trusted.tensor(placed[0]), torch.arange(5))


@pytest.mark.parametrize("change", [
    {"offset": 2**40}, {"offset": -512}, {"offset": 3}, {"shape": [10**9]}, {"stride": [-1]}, {"shape": [True]},
    {"shape": [1, 1]}, {"dtype": "nn"}, {"dtype": 7}, {"name": None}, {"shape": "ab"}, {"shape": [1] * 99},
])
def test_a_slot_that_points_elsewhere_is_refused(sides, change):
    share(sides, {"x": torch.zeros(4)})
    data = {"name": "0", "offset": 0, "shape": [2], "stride": [1], "dtype": "float32"} | change
    with pytest.raises(ProtocolError):
        sides[0].tensor(Slot.from_dict(data))


@pytest.mark.parametrize("data", [None, [], {}, {"name": "x"}])
def test_what_is_no_slot_is_refused(data):
    with pytest.raises(ProtocolError):
        Slot.from_dict(data)


def test_expanded_tensors_are_laid_out_whole():
    (slot,) = plan_slots({"x": torch.zeros(3, 1).expand(3, 4)})
    assert slot.stride == (4, 1)
    assert end_of([slot]) >= slot.offset + 48 + GUARD_BYTES
