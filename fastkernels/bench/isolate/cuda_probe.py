"""Whether a confined process and one outside can open each other's CUDA memory, by the driver alone; no torch."""

import ctypes
import json
import os
from collections.abc import Callable
from typing import Any

_BYTES = 1 << 20
_VALUE = 0x5A
_PEER_ACCESS = 1
_HANDLE_BYTES = 64


class _Handle(ctypes.Structure):
    _fields_ = (("reserved", ctypes.c_char * _HANDLE_BYTES),)


def share_with(confined: Callable[[], dict[str, bool]]) -> dict[str, bool]:
    """What `confined` returns in a forked process, once each has written to memory of the other's; else OSError.

    Forked before the driver is loaded, which does not survive a fork.
    """
    told, tell = os.pipe()
    answered, answer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.close(answered)
        reply: dict[str, Any]
        try:
            found = confined()
            _write_to(os.read(told, _HANDLE_BYTES))
            reply = {"found": found, "handle": _export()[1].hex()}
        except OSError as error:
            reply = {"error": str(error)}
        os.write(answer, json.dumps(reply).encode() + b"\n")
        os.read(told, 1)  # until the other process has done with this one's memory
        os._exit(0)
    os.close(told)
    os.close(answer)
    try:
        return _share(tell, answered)
    finally:
        os.close(tell)
        os.close(answered)
        os.waitpid(child, 0)


def _share(tell: int, answered: int) -> dict[str, bool]:
    address, handle = _export()
    os.write(tell, handle)
    with open(answered, closefd=False) as file:
        text = file.readline()
    reply: dict[str, Any] = json.loads(text) if text else {"error": "the confined process has ended"}
    if "error" in reply:
        raise OSError(reply["error"])
    host = ctypes.create_string_buffer(_BYTES)
    _call("cuMemcpyDtoH_v2", host, address, ctypes.c_size_t(_BYTES))
    if host.raw != bytes([_VALUE]) * _BYTES:
        raise OSError("what the confined process has written does not arrive")
    _write_to(bytes.fromhex(reply["handle"]))
    found: dict[str, bool] = reply["found"]
    return found


def _export() -> tuple[ctypes.c_uint64, bytes]:
    _open_device()
    address, handle = ctypes.c_uint64(0), _Handle()
    _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(_BYTES))
    _call("cuIpcGetMemHandle", ctypes.byref(handle), address)
    return address, bytes(handle)


def _write_to(handle: bytes) -> None:
    if len(handle) != _HANDLE_BYTES:
        raise OSError("no memory was exported")
    _open_device()
    address = ctypes.c_uint64(0)
    _call("cuIpcOpenMemHandle_v2", ctypes.byref(address), _Handle.from_buffer_copy(handle), _PEER_ACCESS)
    _call("cuMemsetD8_v2", address, ctypes.c_ubyte(_VALUE), ctypes.c_size_t(_BYTES))
    _call("cuCtxSynchronize")


def _open_device() -> None:
    device, context = ctypes.c_int(0), ctypes.c_void_p(None)
    _call("cuInit", 0)
    _call("cuDeviceGet", ctypes.byref(device), 0)
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call("cuCtxSetCurrent", context)


def _call(function: str, *arguments: Any) -> None:
    status = getattr(ctypes.CDLL("libcuda.so.1"), function)(*arguments)
    if status != 0:
        raise OSError(f"{function}: CUDA driver error {status}")
