"""Whether a candidate's process has taken a GPU's memory from the judge: read from outside, by NVML; no torch.

A limit within the process could be undone there, and NVML tells a container's processes apart by numbers that are not
known in it. So what the device has left is read, and where that is little the candidate's process is ended: what
comes free then is what it held.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

MOST_SHARE = 0.5
"""Part of a device's memory that a candidate's process may hold once the device is nearly full."""

FULL_SHARE = 0.9
"""Part in use from which on a device is nearly full: what is held on one with room harms nobody."""

RELEASE_S = 3.0
"""How long the driver may take to give back what an ended process held."""

_POLL_S = 0.05


@dataclass(frozen=True)
class Device:
    """Memory of one device, bytes."""

    used: int
    """By all processes."""
    total: int
    """All that it has."""


Read = Callable[[], Sequence[Device]]
"""Reads all devices."""


class GpuMemory:
    """What one candidate's process takes; `read` reads the devices, always in the same order."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._before: Sequence[Device] = ()
        self.accuses = True
        """False once a candidate was suspected that held little."""

    def note(self) -> None:
        """Remember what is in use before a candidate is imported."""
        self._before = self._read()

    def is_suspect(self) -> bool:
        """Whether a device is nearly full and has filled by more than is allowed since `note`."""
        return self.accuses and any(
            now.used > FULL_SHARE * now.total and now.used - before.used > MOST_SHARE * now.total
            for now, before in zip(self._read(), self._before, strict=False))

    def held(self, end: Callable[[], None]) -> str:
        """End the candidate's process by `end`; what it held, if that is more than is allowed, else ''."""
        before = self._read()
        end()
        if not before:
            return ""
        stop = time.monotonic() + RELEASE_S
        while True:
            freed = [(old.used - now.used, now.total) for old, now in zip(before, self._read(), strict=False)]
            held, total = max(freed, default=(0, 1))
            if held > MOST_SHARE * total:
                return (f"the candidate's process held {held / 2**30:.1f} GiB of GPU memory "
                        f"(at most {MOST_SHARE * total / 2**30:.1f} of {total / 2**30:.1f} once it is nearly full)")
            if time.monotonic() > stop:
                return ""
            time.sleep(_POLL_S)


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def read_devices() -> Sequence[Device]:
    """All NVIDIA devices of the machine; none where NVML cannot be had. The first call loads it."""
    read = _nvml_reader()
    return read() if read is not None else ()


@cache
def _nvml_reader() -> Read | None:
    """Reads all NVIDIA devices of the machine; None where NVML cannot be had."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() != 0 or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    handles = [ctypes.c_void_p() for _ in range(count.value)]
    for index, handle in enumerate(handles):
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            return None

    def read() -> list[Device]:
        memory = _Memory()
        return [Device(memory.used, memory.total) for handle in handles
                if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0]

    return read
