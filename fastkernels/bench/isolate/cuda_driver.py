"""Calls of the CUDA driver for memory that two processes share, in the context that torch has on a device."""

import ctypes
from functools import cache
from typing import Any

import torch

_PEER_ACCESS = 1
"""CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS."""

_OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""


class DriverError(RuntimeError):
    """The driver refused."""


class IpcHandle(ctypes.Structure):
    """CUipcMemHandle."""

    _fields_ = (("reserved", ctypes.c_char * 64),)


class DeviceBytes:
    """Presents an address as an array that torch views without copying."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3,
                                         "strides": None, "stream": None}


def see(address: int, size: int, device: torch.device) -> torch.Tensor:
    """uint8 [size] over device memory that somebody else owns."""
    return torch.as_tensor(DeviceBytes(address, size), device=device)


def allocate(size: int, device: torch.device) -> int:
    """Address of new memory outside of torch's allocator."""
    address = ctypes.c_uint64(0)
    _call(device, f"allocating {size} bytes", "cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
    return address.value


def free(address: int, device: torch.device) -> None:
    """Free what `allocate` gave."""
    _call(device, "freeing memory", "cuMemFree_v2", ctypes.c_uint64(address))


def export(address: int, device: torch.device) -> bytes:
    """Handle by which another process opens the allocation that begins at `address`."""
    handle = IpcHandle()
    _call(device, "exporting memory", "cuIpcGetMemHandle", ctypes.byref(handle), ctypes.c_uint64(address))
    return bytes(handle)


def open_exported(handle: bytes, device: torch.device) -> int:
    """Where another process's allocation lies in this one."""
    address = ctypes.c_uint64(0)
    shared = IpcHandle.from_buffer_copy(handle)
    _call(device, "opening shared memory", "cuIpcOpenMemHandle_v2", ctypes.byref(address), shared, _PEER_ACCESS)
    return address.value


def close_exported(address: int, device: torch.device) -> None:
    """Let go of what `open_exported` gave."""
    _call(device, "closing shared memory", "cuIpcCloseMemHandle", ctypes.c_uint64(address))


def allocation_of(address: int, device: torch.device) -> tuple[int, int]:
    """(start, bytes) of the allocation that an address lies in."""
    start, size = ctypes.c_uint64(0), ctypes.c_size_t(0)
    _call(device, "looking an address up", "cuMemGetAddressRange_v2", ctypes.byref(start), ctypes.byref(size),
          ctypes.c_uint64(address))
    return start.value, size.value


def _call(device: torch.device, doing: str, function: str, *arguments: Any) -> None:
    with torch.cuda.device(device):
        status = getattr(_driver(device), function)(*arguments)
    if status != 0:
        what = " (out of memory)" if status == _OUT_OF_MEMORY else ""
        raise DriverError(f"{doing}: CUDA driver error {status}{what}")


@cache
def _driver(device: torch.device) -> ctypes.CDLL:
    torch.zeros(1, device=device)  # makes torch's context there, in which the calls work
    return ctypes.CDLL("libcuda.so.1")
