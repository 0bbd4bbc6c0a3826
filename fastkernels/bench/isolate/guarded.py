"""Allocations with guard bands: what a call asks torch for lies between bytes that nobody may write.

What torch is asked for by name (`torch.empty`, `zeros_like`, `x.new_full`, `clone`, from Python or C++) is handed out
from the middle of a larger block, and what is handed out without contents holds NaN. What kernels of torch, compiled
code and other threads allocate inside lies as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ALIGN_BYTES = 512
"""Guard bands are multiples of this, so that a tensor between them is aligned as ever."""

LEAST_BYTES, MOST_BYTES = 4096, 1024 * 1024
"""Width of a guard band: two rows of the tensor, between these."""

LARGEST_BYTES = 256 * 1024 * 1024
"""Larger tensors are left where they are."""

EMPTY = ("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided")
FILLED = ("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full", "clone")
_WITHOUT_CONTENTS = frozenset(f"aten::{name}" for name in EMPTY)
_GUARDED = _WITHOUT_CONTENTS | {f"aten::{name}" for name in FILLED}


@dataclass(frozen=True)
class Block:
    """One allocation with its guard bands."""

    whole: torch.Tensor
    """uint8, the guard bands included."""
    start: int
    """First byte between them."""
    end: int
    """First byte behind the tensor."""
    shape: tuple[int, ...]
    """Of the tensor."""


class GuardedAllocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Has torch's allocations in this thread lie between guard bands while it is entered."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        generator = torch.Generator(device)
        generator.seed()
        self._guard = torch.randint(0, 256, (MOST_BYTES,), dtype=torch.uint8, device=device, generator=generator)
        self._blocks: list[Block] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch would import its whole compiler, 3 s, to keep it from this class."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; a tensor that it has newly allocated is moved between guard bands."""
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name not in _GUARDED or (kwargs or {}).get("out") is not None or not self._can_be_moved(made):
            return made
        return self._moved(made, name not in _WITHOUT_CONTENTS)

    def damaged(self, outputs: Sequence[torch.Tensor]) -> list[str]:
        """What guard bands were written beside; outputs by their place among these, others by their shape."""
        places = {tensor.untyped_storage().data_ptr(): place for place, tensor in enumerate(outputs)
                  if tensor.device == self._device}
        found = []
        for block in self._blocks:
            before, behind = block.whole[:block.start], block.whole[block.end:]
            if not (torch.equal(before, self._guard[:len(before)]) and torch.equal(behind, self._guard[:len(behind)])):
                place = places.get(block.whole.untyped_storage().data_ptr())
                output = "output" if len(outputs) == 1 else f"output[{place}]"
                found.append(f"a temporary tensor of shape {list(block.shape)}" if place is None else output)
        return found

    def _can_be_moved(self, made: Any) -> bool:
        return (type(made) is torch.Tensor and made.layout is torch.strided and made.device == self._device
                and not made.is_quantized and 0 < made.nbytes <= LARGEST_BYTES and not made.is_pinned()
                and made.nbytes == _extent_bytes(made))

    def _moved(self, made: torch.Tensor, with_contents: bool) -> torch.Tensor:
        row_bytes = made.nbytes // made.shape[0] if made.dim() else made.nbytes
        width = -(-min(max(LEAST_BYTES, 2 * row_bytes), MOST_BYTES) // ALIGN_BYTES) * ALIGN_BYTES
        whole = torch.empty(width + made.nbytes + width, dtype=torch.uint8, device=made.device)
        block = Block(whole, width, width + made.nbytes, tuple(made.shape))
        whole[:width] = self._guard[:width]
        whole[block.end:] = self._guard[:width]
        moved = torch.empty(0, dtype=made.dtype, device=made.device)
        moved.set_(whole.untyped_storage(), width // made.itemsize, made.shape, made.stride())
        if with_contents:
            moved.copy_(made)
        else:
            whole[width:block.end] = 1 if made.dtype == torch.bool else 255  # NaN in every float dtype, -1 in integers
        self._blocks.append(block)
        return moved


def _extent_bytes(tensor: torch.Tensor) -> int:
    """Bytes from the first element to behind the last."""
    spread = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (spread + 1) * tensor.itemsize
