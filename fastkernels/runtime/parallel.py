"""The tensor parallel group that layers shard over: one process a rank, or one rank alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist

from fastkernels.errors import ModelError


class TensorParallelGroup(Protocol):
    """What a sharded layer asks of its group."""

    rank: int
    """This process's place, 0 to size - 1."""
    size: int
    """Tensor parallel degree."""

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of all ranks' x, of the same shape; may be written into x."""

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """All ranks' x in order of rank, joined along the last dimension."""


class OneRank:
    """A rank without its peers: shapes are those of rank `rank` of `size`, and nothing is exchanged.

    With size 1 that is the whole model. With more it is one rank's share of the work: sums over ranks stay this rank's
    part, gathered tensors hold this rank's part alone.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """This rank's part."""
        return x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """This rank's part."""
        return x


class MirroredRank(OneRank):
    """One rank of several whose peers are stood for, so that a sum that is left out or made twice shows.

    The peers' parts of a sum are taken to add up to -3 x, so that it is -2 x: exact in every float dtype, and what no
    mistake comes to. Of what is gathered, each peer's part is -2 x too, so that what follows from all parts, such as a
    norm over them, is not what follows from this rank's alone.
    """

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """-2 x, written into x; x as it is where the rank has no peers."""
        return x.mul_(-2) if self.size > 1 else x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """x in this rank's place and -2 x in every other, joined along the last dimension."""
        return torch.cat([x if rank == self.rank else -2 * x for rank in range(self.size)], dim=-1)


class ProcessGroup:
    """The ranks of a torch.distributed group (NCCL on GPUs, gloo on CPUs)."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def __deepcopy__(self, memo: dict[int, object]) -> "ProcessGroup":
        """A copied module speaks to the same ranks."""
        return self

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, written into x."""
        dist.all_reduce(x, group=self._group)
        return x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """Join all ranks' tensors along the last dimension."""
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous(), group=self._group)
        return torch.cat(parts, dim=-1)


def divide(total: int, ranks: int, what: str) -> int:
    """One rank's part of `total`; ModelError that names `what` where it is not whole."""
    if total % ranks:
        raise ModelError(f"{what}: {total} cannot be shared out evenly to {ranks} tensor parallel ranks")
    return total // ranks


_current: TensorParallelGroup = OneRank()


def tp_group() -> TensorParallelGroup:
    """The group that layers are sharded over; OneRank() where none was set."""
    return _current


@contextmanager
def set_tp_group(group: TensorParallelGroup) -> Iterator[None]:
    """Make `group` the one that layers read, when they are built and when they are called, within the block."""
    global _current
    before, _current = _current, group
    try:
        yield
    finally:
        _current = before
