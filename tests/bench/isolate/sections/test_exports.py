"""Where a side says that its outputs lie, read with distrust; the driver is made up."""

import pytest
import torch

from fastkernels.bench.isolate import cuda_driver
from fastkernels.bench.isolate.protocol import ProtocolError
from fastkernels.bench.isolate.sections.exports import MOST_BLOCKS, Blocks, export_blocks

CPU = torch.device("cpu")
ROOM = (0x1000, 0x800)
"""First address and bytes, in whichever process."""

ALLOCATIONS = {0x10000: 0x2000, 0x20000: 0x1000}
"""Of the side: start and bytes."""


@pytest.fixture
def driver(monkeypatch):
    """A side's allocations lie 0x500000 higher in this process; what is opened is noted, and closed."""
    opened = []

    def allocation_of(address, device):
        found = [(start, size) for start, size in ALLOCATIONS.items()
                 if start <= address % 0x500000 < start + size]
        if not found:
            raise cuda_driver.DriverError("no such address")
        return found[0]

    def open_exported(handle, device):
        address = int.from_bytes(handle, "big") + 0x500000
        if address - 0x500000 not in ALLOCATIONS:
            raise cuda_driver.DriverError("no such handle")
        opened.append(address)
        return address

    monkeypatch.setattr(cuda_driver, "allocation_of", allocation_of)
    monkeypatch.setattr(cuda_driver, "export", lambda address, device: address.to_bytes(4, "big"))
    monkeypatch.setattr(cuda_driver, "open_exported", open_exported)
    monkeypatch.setattr(cuda_driver, "close_exported", lambda address, device: opened.remove(address))
    return opened


def test_addresses_are_found_again_in_the_other_process(driver):
    told = export_blocks([0x10010, 0x10020, 0x20000, 0x1100], ROOM, CPU)
    assert len(told) == 3, "each allocation once, the room among them"
    blocks = Blocks(told, (0x9000, 0x800), CPU)
    assert blocks.here(0x10010, 16) == 0x510010
    assert blocks.here(0x20000, 0x1000) == 0x520000
    assert blocks.here(0x1100, 8) == 0x9100, "an output may be an input that was written to"
    assert driver == [0x510000, 0x520000]
    blocks.close()
    blocks.close()
    assert driver == []


@pytest.mark.parametrize(("address", "size"), [
    (0x10000, 0x2001), (0x11fff, 2), (0x0fff0, 8), (0x30000, 1), (0x17ff, 2), (0x20000, 0x1001),
], ids=["longer than the block", "over its end", "before all", "of no block", "over the room's end", "claimed larger"])
def test_an_output_outside_of_what_was_told_is_refused(driver, address, size):
    told = [[ROOM[0], ROOM[1], ""], [0x10000, 2**40, (0x10000).to_bytes(4, "big").hex()],
            [0x20000, 2**40, (0x20000).to_bytes(4, "big").hex()]]  # what a side says of sizes counts for nothing
    blocks = Blocks(told, ROOM, CPU)
    with pytest.raises(ProtocolError, match="told of no memory"):
        blocks.here(address, size)
    blocks.close()


@pytest.mark.parametrize("told", [
    None, [], [[1, 2]], [["1", 2, ""]], [[1, 2, 3]], [[0x1000, 8, ""]] * (MOST_BLOCKS + 1), [[0x40000, 8, "00040000"]],
    [[0x40000, 8, "no hex"]], [[0x10000, 8, "00010000"], [1, 2, "ff"]],
])
def test_nonsense_about_allocations_is_refused_and_nothing_stays_open(driver, told):
    with pytest.raises(ProtocolError):
        Blocks(told, ROOM, CPU)
    assert driver == []
