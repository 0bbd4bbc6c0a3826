"""CUDA memory that two processes see: allocated and exported through the driver, outside torch's caching allocator.

The caching allocator exports whole blocks, in which expected outputs may lie; these allocations hold the arena alone.
"""

import ctypes
from functools import cache
from typing import Any

import torch

_PEER_ACCESS = 1
"""CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS."""


_OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""


class IpcHandle(ctypes.Structure):
    """CUipcMemHandle."""

    _fields_ = (("reserved", ctypes.c_char * 64),)


class DeviceBytes:
    """Presents an address as an array that torch views without copying."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3,
                                         "strides": None, "stream": None}


class CudaMemory:
    """One exported allocation; grows by a new one, and the old one goes once the other process has let go of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._address = 0
        self._handle = b""
        self._retired: list[int] = []
        self._outdated: list[int] = []
        self.view = torch.empty(0, dtype=torch.uint8, device=device)

    def grow(self, size: int) -> None:
        """Allocate anew where the block is too small."""
        if size <= self.view.numel():
            return
        if self._address:
            self._retired.append(self._address)
        address = ctypes.c_uint64(0)
        self._call(f"allocating {size} bytes", "cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        handle = IpcHandle()
        self._call("exporting memory", "cuIpcGetMemHandle", ctypes.byref(handle), address)
        self._handle = bytes(handle)
        self._see(address.value, size)

    def reference(self) -> dict[str, Any]:
        """Size and handle. The other process reads it before this is called again, which frees what it has left."""
        torch.cuda.synchronize(self._device)
        for address in self._outdated:
            self._call("freeing memory", "cuMemFree_v2", ctypes.c_uint64(address))
        self._outdated, self._retired = self._retired, []
        return {"bytes": self.view.numel(), "handle": self._handle.hex()}

    def follow(self, reference: dict[str, Any]) -> None:
        """Open the block, and close the one before."""
        handle = bytes.fromhex(reference["handle"])
        if handle == self._handle:
            return
        torch.cuda.synchronize(self._device)
        if self._address:
            self._call("closing shared memory", "cuIpcCloseMemHandle", ctypes.c_uint64(self._address))
        address = ctypes.c_uint64(0)
        shared = IpcHandle.from_buffer_copy(handle)
        self._call("opening shared memory", "cuIpcOpenMemHandle_v2", ctypes.byref(address), shared, _PEER_ACCESS)
        self._handle = handle
        self._see(address.value, reference["bytes"])

    def release(self) -> None:
        """Nothing: the block is kept for the next scenario."""

    def _see(self, address: int, size: int) -> None:
        self._address = address
        self.view = torch.as_tensor(DeviceBytes(address, size), device=self._device)

    def _call(self, doing: str, function: str, *arguments: Any) -> None:
        """Call the driver in the context that torch has on this device, whichever is the current one."""
        with torch.cuda.device(self._device):
            status = getattr(_driver(self._device), function)(*arguments)
        if status != 0:
            what = " (out of memory)" if status == _OUT_OF_MEMORY else ""
            raise RuntimeError(f"{doing}: CUDA driver error {status}{what}")


@cache
def _driver(device: torch.device) -> ctypes.CDLL:
    torch.zeros(1, device=device)  # makes torch's context there, in which the calls work
    return ctypes.CDLL("libcuda.so.1")
