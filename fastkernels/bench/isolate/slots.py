"""Where tensors lie in an arena, as plain data that crosses between processes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch

from fastkernels.bench.isolate.protocol import ProtocolError

GUARD_BYTES = 1024
"""Least width of the guard band before, between and after tensors."""

ALIGN_BYTES = 512
"""Tensors start at multiples of this, as the CUDA caching allocator's do."""

MAX_DIMS = 16
"""More dimensions are no tensor of a model."""


@dataclass(frozen=True)
class Slot:
    """One tensor in an arena."""

    name: str
    """Name within its group."""
    offset: int
    """First byte; a multiple of the item size."""
    shape: tuple[int, ...]
    """Elements in each dimension."""
    stride: tuple[int, ...]
    """Elements between neighbours in each dimension; never negative."""
    dtype: str
    """torch dtype name."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ProtocolError(f"{self.name}: {self.dtype!r} is no torch dtype")
        return dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.torch_dtype.itemsize

    @property
    def extent_bytes(self) -> int:
        """Bytes from the first element to behind the last."""
        if prod(self.shape) == 0:
            return 0
        return (sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)) + 1) * self.itemsize

    @property
    def has_gaps(self) -> bool:
        """True where bytes between its elements belong to nobody."""
        return prod(self.shape) * self.itemsize < self.extent_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> "Slot":
        """Read and check a slot; ProtocolError for anything that is none."""
        if not isinstance(data, dict) or set(data) != set(cls.__dataclass_fields__):
            raise ProtocolError(f"no description of a tensor: {str(data)[:200]}")
        texts, numbers = (data["name"], data["dtype"]), (data["offset"], *_dims(data["shape"]), *_dims(data["stride"]))
        if not all(isinstance(text, str) for text in texts) or len(data["shape"]) != len(data["stride"]):
            raise ProtocolError(f"no description of a tensor: {str(data)[:200]}")
        if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
            raise ProtocolError(f"a tensor of impossible shape: {str(data)[:200]}")
        return cls(data["name"], data["offset"], tuple(data["shape"]), tuple(data["stride"]), data["dtype"])


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def plan_slots(tensors: Mapping[str, torch.Tensor], contiguous: bool = False) -> list[Slot]:
    """Lay tensors out one after another with guard bands between; strides are kept unless `contiguous`."""
    slots, end = [], 0
    for name, tensor in tensors.items():
        stride = _contiguous(tensor.shape) if contiguous or _overlaps(tensor) else tensor.stride()
        slot = Slot(name, _round_up(end + GUARD_BYTES), tuple(tensor.shape), tuple(stride), dtype_name(tensor.dtype))
        slots.append(slot)
        end = slot.offset + slot.extent_bytes
    return slots


def end_of(slots: Sequence[Slot]) -> int:
    """Bytes that these slots take, the last guard band included."""
    return _round_up(slots[-1].offset + slots[-1].extent_bytes + GUARD_BYTES) if slots else 0


def _round_up(size: int) -> int:
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1:]) for i in range(len(shape)))


def _overlaps(tensor: torch.Tensor) -> bool:
    """Whether an expanded tensor has elements on top of each other."""
    return any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _dims(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > MAX_DIMS:
        raise ProtocolError(f"no shape: {str(value)[:200]}")
    return list(value)
