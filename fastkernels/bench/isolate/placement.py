"""Where inputs and temporaries of a call lie on a CPU: elsewhere in every round, so that no process keeps its luck."""

import random

import torch

BLOCKS = 48
"""Blocks taken at once; every other one is given back, so that free places of random sizes remain."""

LEAST_BYTES = 64
MOVED_BYTES = 32 * 1024 * 1024
"""Timing sets of together more bytes stay where they are: they fit in no cache, and moving them takes long."""

SMALLEST_LOG2, LARGEST_LOG2 = 12, 22
"""A block has at most 2^n bytes with n drawn between these: from a page to 4 MiB."""


class RandomPlacement:
    """Blocks of random sizes in this process's heap.

    The allocator gives a call the same addresses again and again. How these lie to each other makes a kernel that is
    bound by memory up to 1.8 times slower, and differs between processes: rms_norm 512x2048 against itself.
    """

    def __init__(self) -> None:
        self._random = random.Random()  # its own state: graded code may seed the module's
        self._blocks: list[torch.Tensor] = []

    def renew(self) -> None:
        """Give the blocks back and take others."""
        self.clear()
        blocks = [torch.empty(self._size(), dtype=torch.uint8) for _ in range(BLOCKS)]
        self._random.shuffle(blocks)
        self._blocks = blocks[::2]

    def clear(self) -> None:
        """Give the blocks back."""
        self._blocks = []

    def _size(self) -> int:
        return self._random.randrange(LEAST_BYTES, 1 << self._random.randint(SMALLEST_LOG2, LARGEST_LOG2))
