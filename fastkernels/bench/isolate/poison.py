"""Leaves nothing of use where a kernel may look without having written: shared memory, registers, freed memory (CUDA).

A kernel that leaves out part of its shared memory finds zeros there mostly, or what a call before has left, and so does
one that leaves out rows of its output. Before calls that are judged a small kernel therefore fills the shared memory
and most registers of every multiprocessor, and blocks that the caching allocator will hand out next are filled too.
"""

import ctypes
import secrets
from collections.abc import Sequence

import torch

THREADS = 256
"""A block has so many threads that at VALUES and some registers each it takes a multiprocessor's 65,536 registers."""

VALUES = 224
"""Registers that each thread fills."""

WAVES = 2
"""Blocks for each multiprocessor; a block takes all shared memory, so that one runs there at a time."""

PATTERNS = (0xFFFFFFFF, 0x7FFF7FFF)
"""NaN in every float dtype; -1, or large, as integers. Bits at random are filled in as often as each of these."""

BLOCKS = 4
"""Freed blocks of each size that are filled."""

MOST_BYTES = 256 * 1024 * 1024
"""Of larger outputs no blocks are filled."""

_SHARED_PER_BLOCK_OPTIN, _MULTIPROCESSORS = 97, 16
_MAX_DYNAMIC_SHARED_BYTES = 8


def kernel_text() -> str:
    """PTX of `fill(words, pattern)`: fills dynamic shared memory, then VALUES registers of each thread from it.

    A loop whose every round takes all values and leaves them as they are, since they are equal, keeps them in registers
    at once. Nothing is stored in the end: the sum of an even number of equal values is 0.
    """
    loads = "\n".join(f"    ld.volatile.shared.u32 %v{i}, [%base+{4 * i}];" for i in range(VALUES))
    rounds = "\n".join(f"    and.b32 %v{i}, %v{i}, %v{(i + 1) % VALUES};" for i in range(VALUES))
    uses = "\n".join(f"    xor.b32 %sum, %sum, %v{i};" for i in range(VALUES))
    return f"""
.version 6.3
.target sm_75
.address_size 64
.extern .shared .align 16 .b8 pool[];

.visible .entry fill(.param .u32 words, .param .u32 pattern)
.maxntid {THREADS}, 1, 1
{{
    .reg .pred %past, %never;
    .reg .b32 %words, %pattern, %at, %step, %place, %base, %sum;
    .reg .b32 %v<{VALUES}>;
    ld.param.u32 %words, [words];
    ld.param.u32 %pattern, [pattern];
    mov.u32 %at, %tid.x;
    mov.u32 %step, %ntid.x;
    mov.u32 %base, pool;
NEXT:
    setp.ge.u32 %past, %at, %words;
    @%past bra FILLED;
    shl.b32 %place, %at, 2;
    add.u32 %place, %place, %base;
    st.volatile.shared.u32 [%place], %pattern;
    add.u32 %at, %at, %step;
    bra NEXT;
FILLED:
    bar.sync 0;
{loads}
    shr.u32 %at, %words, 12;
AGAIN:
{rounds}
    sub.u32 %at, %at, 1;
    setp.gt.s32 %past, %at, 0;
    @%past bra AGAIN;
    mov.u32 %sum, 0;
{uses}
    setp.eq.u32 %never, %sum, 1;
    @%never st.volatile.shared.u32 [%base], %sum;
    ret;
}}
"""


class Poison:
    """Fills what the next call might read without having written it; does nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._function: ctypes.c_void_p | None = None
        self._shared_bytes = self._multiprocessors = 0

    def before_call(self, sizes: Sequence[int]) -> None:
        """Queue it on the current stream. `sizes`: bytes of each output, as far as they are known."""
        if self._device.type == "cuda":
            self._fill_freed([size for size in sizes if 0 < size <= MOST_BYTES])
            self.fill_multiprocessors(pattern())

    def fill_multiprocessors(self, bits: int) -> None:
        """Have these 32 bits stand all over shared memory and registers."""
        self.prepare()
        words, value = ctypes.c_uint32(self._shared_bytes // 4), ctypes.c_uint32(bits)
        arguments = (ctypes.c_void_p * 2)(ctypes.addressof(words), ctypes.addressof(value))
        stream = torch.cuda.current_stream(self._device).cuda_stream
        _call("cuLaunchKernel", self._function, *map(ctypes.c_uint, (WAVES * self._multiprocessors, 1, 1, THREADS, 1, 1,
              self._shared_bytes)), ctypes.c_void_p(stream), arguments, None)

    def _fill_freed(self, sizes: Sequence[int]) -> None:
        for size in sizes:
            blocks = [torch.empty(size, dtype=torch.uint8, device=self._device) for _ in range(BLOCKS)]
            for block in blocks:
                block.fill_(255)

    def prepare(self) -> None:
        """On CUDA have the driver compile the kernel in this process's context, once; some milliseconds."""
        if self._device.type != "cuda" or self._function is not None:
            return
        torch.cuda.current_stream(self._device).synchronize()  # makes the context current in this thread
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        number, handle = ctypes.c_int(0), ctypes.c_int(0)
        _call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(index))
        _call("cuDeviceGetAttribute", ctypes.byref(number), ctypes.c_int(_SHARED_PER_BLOCK_OPTIN), handle)
        self._shared_bytes = number.value
        _call("cuDeviceGetAttribute", ctypes.byref(number), ctypes.c_int(_MULTIPROCESSORS), handle)
        self._multiprocessors = number.value
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(kernel_text().encode()))
        _call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(b"fill"))
        _call("cuFuncSetAttribute", function, ctypes.c_int(_MAX_DYNAMIC_SHARED_BYTES), ctypes.c_int(self._shared_bytes))
        self._function = function


def pattern() -> int:
    """32 bits: NaN, or secret ones."""
    return secrets.choice((*PATTERNS, secrets.randbits(32)))


def _call(name: str, *arguments: object) -> None:
    status = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    if status:
        raise RuntimeError(f"filling shared memory failed: {name} returned {status}")
