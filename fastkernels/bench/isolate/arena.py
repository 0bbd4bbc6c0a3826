"""Shared memory between the trusted and the candidate's worker, with guard bands around each tensor in it.

An arena holds what the candidate may see: weights, inputs, its own outputs; never an expected value. On a CPU it is
an anonymous memory file that both inherit; on CUDA one allocation of its own (not a part of the caching allocator's
blocks, which hold other data), exported by the trusted worker through CUDA IPC.
"""

import mmap
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from fastkernels.bench.isolate.bits import WORD_BYTES
from fastkernels.bench.isolate.protocol import ProtocolError
from fastkernels.bench.isolate.slots import Slot, end_of, plan_slots

ROUND_BYTES = 2 * 1024 * 1024
"""Arenas are multiples of this: CUDA shares memory between processes in such pieces."""


UNIT_BITS = {
    torch.bfloat16: (torch.int16, 0x80FF - 0x10000, 0x3F00), torch.float16: (torch.int16, 0x87FF - 0x10000, 0x3800),
    torch.float32: (torch.int32, 0x80FFFFFF - 0x100000000, 0x3F000000),
}  # fmt: skip
"""Integers of the same size, the bits of any number that are kept and those that are set: 0.5 to 2, or -2 to -0.5."""


class Memory(Protocol):
    """A block of bytes that two processes see."""

    view: torch.Tensor
    """uint8 [bytes] over the whole block."""

    def grow(self, size: int) -> None:
        """Trusted side: make it at least `size` bytes; what it held is lost."""

    def reference(self) -> dict[str, Any]:
        """Trusted side: what the other process needs to see the block as it is now."""

    def follow(self, reference: dict[str, Any]) -> None:
        """Candidate's side: see the block that `reference` tells of."""

    def release(self) -> None:
        """Give the memory back where it is large."""


class FileMemory:
    """An anonymous memory file, inherited by both workers."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.view = torch.empty(0, dtype=torch.uint8)

    def grow(self, size: int) -> None:
        """Lengthen the file; it never shrinks."""
        if size > self.view.numel():
            size = max(size, os.fstat(self._fd).st_size)
            os.ftruncate(self._fd, size)
            self.follow({"bytes": size})

    def reference(self) -> dict[str, Any]:
        """Its length."""
        return {"bytes": self.view.numel()}

    def follow(self, reference: dict[str, Any]) -> None:
        """Map the file anew where it has grown; tensors over the old mapping stay valid."""
        if reference["bytes"] > self.view.numel():
            self._map = mmap.mmap(self._fd, reference["bytes"])
            self.view = torch.frombuffer(self._map, dtype=torch.uint8)

    def release(self) -> None:
        """Hand the pages back to the system and keep the length; they read as zeros afterwards."""
        if self.view.numel() and hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE)


def open_memory(device: torch.device, fd: int) -> Memory:
    """Memory for this device."""
    if device.type == "cuda":
        from fastkernels.bench.isolate.cuda_memory import CudaMemory

        return CudaMemory(device)
    return FileMemory(fd)


def open_arenas(device: torch.device, fds: Sequence[int]) -> "list[Arena]":
    """Arenas on a device, which is made ready first."""
    torch.zeros(1, device=device)
    return [Arena(open_memory(device, fd)) for fd in fds]


class Arena:
    """Named tensors in shared memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._guards: list[tuple[int, int, str]] = []
        self._expected = torch.empty(0, dtype=torch.uint8)
        self._strided: list[tuple[Slot, torch.Tensor]] = []

    def reference(self) -> dict[str, Any]:
        """What the other process must know to find the memory."""
        return self._memory.reference()

    def follow(self, reference: dict[str, Any]) -> None:
        """Find the memory that the trusted side tells of."""
        self._memory.follow(reference)

    @property
    def address(self) -> int:
        """Where the memory lies in this process."""
        return self._memory.view.data_ptr()

    def bytes(self, size: int) -> torch.Tensor:
        """The first `size` bytes as uint8."""
        return self._memory.view[:size]

    def release(self) -> None:
        """Give the memory back; contents are lost."""
        self._memory.release()

    def tensor(self, slot: Slot) -> torch.Tensor:
        """The tensor that lies in a slot; ProtocolError where the slot is not within the arena."""
        view = self._memory.view
        if slot.offset < 0 or slot.offset + slot.extent_bytes > view.numel() or slot.offset % slot.itemsize:
            raise ProtocolError(f"{slot.name}: bytes {slot.offset} to {slot.offset + slot.extent_bytes} of an arena of "
                                f"{view.numel()}")
        empty = torch.empty(0, dtype=slot.torch_dtype, device=view.device)
        return empty.set_(view.untyped_storage(), slot.offset // slot.itemsize, slot.shape, slot.stride)

    def write(
        self, tensors: Mapping[str, torch.Tensor], parts: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None
    ) -> list[Slot]:
        """Lay these tensors out with random guard bands around each, strides kept; overwrites what was there.

        `parts`: of tensors on the `meta` device, (places in the first dimension, values) that are written; the rest of
        their memory is left as it is.
        """
        slots = plan_slots(tensors)
        self.reserve(end_of(slots))
        self._draw_guards(slots)
        self._strided = []
        for slot in slots:
            if parts is not None and slot.name in parts:
                self.tensor(slot).index_copy_(0, *parts[slot.name])
                continue
            if slot.has_gaps:
                _randomise(self._bytes(slot), slot.torch_dtype)
            self.tensor(slot).copy_(tensors[slot.name])
            if slot.has_gaps:
                self._strided.append((slot, self._gaps(slot)))
        return slots

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes; contents are lost where it grows."""
        self._memory.grow(-(-size // ROUND_BYTES) * ROUND_BYTES)

    def place(self, tensors: Mapping[str, torch.Tensor]) -> list[Slot] | None:
        """Copy these tensors in, contiguous and from the start; None where the memory is too small."""
        slots = plan_slots({name: t.detach() for name, t in tensors.items()}, contiguous=True)
        if end_of(slots) > self._memory.view.numel():
            return None
        for slot in slots:
            self.tensor(slot).copy_(tensors[slot.name])
        return slots

    def damaged(self) -> str | None:
        """Name of a tensor beside which the guard bytes of the last `write` were changed, or None."""
        if not self._guards or torch.equal(self._current_guards(), self._expected):
            return self._damaged_gap()
        at = 0
        for start, end, name in self._guards:
            size = end - start
            if not torch.equal(self._memory.view[start:end], self._expected[at:at + size]):
                return name
            at += size
        return None

    def _draw_guards(self, slots: list[Slot]) -> None:
        self._guards, start, before = [], 0, ""
        for slot in slots:
            self._guards.append((start, slot.offset, before or slot.name))
            start, before = slot.offset + slot.extent_bytes, slot.name
        if slots:
            self._guards.append((start, end_of(slots), before))
        view = self._memory.view
        total = sum(end - start for start, end, _ in self._guards)
        # Secret, so that a kernel cannot write the expected bytes: seeded from the system, not from the run's seed.
        generator = torch.Generator(view.device).manual_seed(secrets.randbits(63))
        self._expected = torch.randint(0, 256, (total,), dtype=torch.uint8, device=view.device, generator=generator)
        at = 0
        for start, end, _ in self._guards:
            view[start:end] = self._expected[at:at + end - start]
            at += end - start

    def _current_guards(self) -> torch.Tensor:
        return torch.cat([self._memory.view[start:end] for start, end, _ in self._guards])

    def _damaged_gap(self) -> str | None:
        for slot, before in self._strided:
            if not torch.equal(self._gaps(slot), before):
                return slot.name
        return None

    def _gaps(self, slot: Slot) -> torch.Tensor:
        """A copy of the slot's bytes with its own elements zero."""
        copy = self._bytes(slot).clone()
        copy.view(slot.torch_dtype).as_strided(slot.shape, slot.stride).zero_()
        return copy

    def _bytes(self, slot: Slot) -> torch.Tensor:
        return self._memory.view[slot.offset:slot.offset + slot.extent_bytes]


def _randomise(view: torch.Tensor, dtype: torch.dtype) -> None:
    """Random bytes, drawn by words, which is eight times as quick; of floats numbers between 0.5 and 2 of either sign.

    In a model other heads lie there: a kernel may load them and weigh them by 0.
    """
    words = view.numel() // WORD_BYTES * WORD_BYTES
    view[:words].view(torch.int64).random_(-(2**63), None)
    view[words:].random_()
    if dtype in UNIT_BITS:
        integer, keep, put = UNIT_BITS[dtype]
        view.view(integer).bitwise_and_(keep).bitwise_or_(put)
