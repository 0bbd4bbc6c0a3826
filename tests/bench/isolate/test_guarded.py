"""Allocations between guard bands: writes beside them are seen, and nothing else about them differs."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

from fastkernels.bench.isolate.guarded import EMPTY, FILLED, LARGEST_BYTES, GuardedAllocations

CPU = torch.device("cpu")
X = torch.randn(6, 10)
MAKERS = {
    "empty": lambda: torch.empty(6, 10),
    "empty_strided": lambda: torch.empty_strided((6, 10), (1, 6)),
    "empty_like": lambda: torch.empty_like(X),
    "new_empty": lambda: X.new_empty(6, 10),
    "new_empty_strided": lambda: X.new_empty_strided((6, 10), (10, 1)),
    "zeros": lambda: torch.zeros(6, 10),
    "zeros_like": lambda: torch.zeros_like(X.t()).t(),
    "new_zeros": lambda: X.new_zeros(6, 10),
    "ones": lambda: torch.ones(6, 10),
    "ones_like": lambda: torch.ones_like(X),
    "new_ones": lambda: X.new_ones(6, 10),
    "full": lambda: torch.full((6, 10), 2.5),
    "full_like": lambda: torch.full_like(X, 2.5),
    "new_full": lambda: X.new_full((6, 10), 2.5),
    "clone": lambda: X.clone(),
}


def write(tensor, offset):
    ctypes.memset(tensor.data_ptr() + offset, 0x5A, 8)


def test_every_way_to_ask_for_memory_is_tried():
    assert set(MAKERS) == {*EMPTY, *FILLED}


@pytest.mark.parametrize("name", MAKERS)
def test_a_tensor_is_as_ever_but_for_the_bytes_beside_it(name):
    plain = MAKERS[name]()
    with torch.inference_mode():
        guard = GuardedAllocations(CPU)
        with guard:
            made = MAKERS[name]()
        assert (made.shape, made.stride(), made.dtype) == (plain.shape, plain.stride(), plain.dtype)
        assert type(made) is torch.Tensor
        assert made.data_ptr() % 64 == 0
        assert made.isnan().all() if name in EMPTY else torch.equal(made, plain)
        assert guard.damaged([made]) == []
        write(made, made.nbytes)
        assert guard.damaged([made]) == ["output"]


def test_writes_before_a_tensor_and_beside_a_temporary_one_are_seen():
    guard = GuardedAllocations(CPU)
    with guard:
        first, second, work = torch.empty(3, 8), torch.empty(3, 8), torch.empty(5)
    write(second, -8)
    assert guard.damaged([first, second]) == ["output[1]"]
    write(work, work.nbytes)
    assert guard.damaged([first, second]) == ["output[1]", "a temporary tensor of shape [5]"]


def test_a_whole_row_behind_is_within_the_guard_band():
    guard = GuardedAllocations(CPU)
    with guard:
        made = torch.empty(3, 9000)
    ctypes.memset(made.data_ptr() + made.nbytes, 0, 9000 * 4)
    assert guard.damaged([made]) == ["output"]


def test_what_is_larger_or_has_no_memory_is_left_alone():
    guard = GuardedAllocations(CPU)
    with guard:
        torch.empty(0)
        torch.empty(LARGEST_BYTES + 1, dtype=torch.uint8)
        torch.empty(3, device="meta")
        torch.full((6, 10), 1.0, out=X.clone())
    assert [block.shape for block in guard._blocks] == [(6, 10)]


def test_views_writes_in_place_and_resizing_work_between_guard_bands():
    with GuardedAllocations(CPU) as guard:
        out = torch.zeros(8, 4)
        out[:6].add_(1)
        wide = F.pad(out, (0, 4)).view(4, 16)
        out.resize_(2, 4)
    assert out.sum() == 8
    assert wide.sum() == 24
    assert guard.damaged([wide]) == []
