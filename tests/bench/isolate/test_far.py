"""Caches past 2^31 elements: what the candidate is given and what the judge reads back."""

import os

import torch

from fastkernels.bench.isolate.arena import Arena, FileMemory
from fastkernels.bench.isolate.far import ELEMENTS, Far, far_pages

INPUTS = {
    "key": torch.randn(6, 2, 32).bfloat16(), "key_cache": torch.randn(8, 16, 2, 32).bfloat16(),
    "context.value_cache": torch.randn(8, 16, 2, 32).bfloat16(),
    "slot_mapping": torch.tensor([17, -1, 40, 63, 90, 127]),
    "block_table": torch.tensor([[1, 7, 0], [5, 3, 7]]),
}  # fmt: skip


def far_inputs() -> tuple[Far, dict[str, torch.Tensor]]:
    """Where the pages are, and the inputs as they lie in an arena."""
    far, arena = far_pages(INPUTS, 3), Arena(FileMemory(os.memfd_create("arena")))
    assert far is not None
    parts = {name: (far.pages, value) for name, value in INPUTS.items() if name.endswith("_cache")}
    return far, {slot.name: arena.tensor(slot) for slot in arena.write(far.spread(INPUTS), parts)}


def test_a_far_cache_takes_no_memory_and_is_read_back_as_it_was():
    far, given = far_inputs()
    cache = given["key_cache"]
    assert cache.is_contiguous()
    assert cache.numel() > ELEMENTS
    assert (far.pages[1:] * cache[0].numel() >= ELEMENTS).all()
    back = far.gathered(given, INPUTS)
    assert all(torch.equal(back[name], value) for name, value in INPUTS.items())


def test_slots_and_pages_are_those_of_the_large_cache_and_padding_stays_padding():
    _, given = far_inputs()
    cache, slots, table = given["key_cache"], given["slot_mapping"], given["block_table"]
    assert torch.equal(cache[slots[2] // 16, slots[2] % 16], INPUTS["key_cache"][40 // 16, 40 % 16])
    assert slots[1] == -1
    assert torch.equal(cache[table.long()], INPUTS["key_cache"][INPUTS["block_table"]])


def test_a_write_is_read_back_and_a_changed_slot_stays_changed():
    far, given = far_inputs()
    given["key_cache"][far.pages[5], 3] = 2.0
    given["slot_mapping"][0] += 1
    back = far.gathered(given, INPUTS)
    assert (back["key_cache"][5, 3] == 2.0).all()
    assert torch.equal(back["key_cache"][:5], INPUTS["key_cache"][:5])
    assert not torch.equal(back["slot_mapping"], INPUTS["slot_mapping"])
