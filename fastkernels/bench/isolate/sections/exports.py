"""Outputs in the memory where a side's calls have left them, as the trusted worker sees it: nothing is copied."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from fastkernels.bench.isolate import cuda_driver
from fastkernels.bench.isolate.protocol import ProtocolError

MOST_BLOCKS = 1024
"""Allocations that the outputs of one side may lie in; opening one takes 0.4 ms."""

ROOM = ""
"""Handle that stands for the side's own room: an operator may return an input that it has written to."""


def export_blocks(addresses: Iterable[int], room: tuple[int, int], device: torch.device) -> list[list[Any]]:
    """[start, bytes, handle] of each allocation that holds one of these addresses; DriverError where one has none."""
    blocks: dict[int, list[Any]] = {room[0]: [room[0], room[1], ROOM]}
    for address in addresses:
        if any(start <= address < start + size for start, size, _ in blocks.values()):
            continue
        start, size = cuda_driver.allocation_of(address, device)
        blocks[start] = [start, size, cuda_driver.export(start, device).hex()]
    return list(blocks.values())


@dataclass(frozen=True)
class Block:
    """An allocation of a side's."""

    start: int
    """Where it begins in the side's process."""
    size: int
    """Bytes, as this process sees it."""
    here: int
    """Where it begins in this process."""


class Blocks:
    """A side's allocations, opened in this process; close them before the side frees its own."""

    def __init__(self, told: Any, room: tuple[int, int], device: torch.device) -> None:
        """told: what `export_blocks` has given, read with distrust. room: the side's room in this process."""
        self._device = device
        self._opened: list[int] = []
        if not isinstance(told, list) or not 1 <= len(told) <= MOST_BLOCKS:
            raise ProtocolError("a side's outputs lie in no allocations, or in too many")
        try:
            self._blocks = sorted((self._open(one, room) for one in told), key=lambda block: block.start)
        except BaseException:
            self.close()
            raise
        self._starts = [block.start for block in self._blocks]

    def here(self, address: int, size: int) -> int:
        """Where `size` bytes at a side's address lie in this process; ProtocolError where it has not told of them."""
        place = bisect_right(self._starts, address) - 1
        block = self._blocks[place] if place >= 0 else None
        if block is None or address + size > block.start + block.size:
            raise ProtocolError("an output lies where the process has told of no memory")
        return block.here + address - block.start

    def close(self) -> None:
        """Let go of all; a second call does nothing."""
        for address in self._opened:
            cuda_driver.close_exported(address, self._device)
        self._opened = []

    def _open(self, one: Any, room: tuple[int, int]) -> Block:
        if not isinstance(one, list) or len(one) != 3 or type(one[0]) is not int or not isinstance(one[2], str):
            raise ProtocolError("no description of an allocation")
        start, _, handle = one
        if handle == ROOM:
            return Block(start, room[1], room[0])
        try:
            address = cuda_driver.open_exported(bytes.fromhex(handle), self._device)
        except (ValueError, cuda_driver.DriverError) as error:
            raise ProtocolError(f"an allocation that cannot be opened: {error}") from error
        self._opened.append(address)
        return Block(start, cuda_driver.allocation_of(address, self._device)[1], address)
