"""A filter of system calls where a candidate has no network namespace of its own: local sockets alone; no torch.

Landlock closes TCP and leaves UDP, raw sockets and the rest open. Calls of another instruction set and io_uring, by
which a socket could be had past the filter, are refused too.
"""

import ctypes
import errno
import os
import platform
import socket
import struct

_SET_SECCOMP, _MODE_FILTER, _NO_NEW_PRIVS = 22, 2, 38
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32 = 0x40000000
_IO_URING = 425
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""By machine: its number as the kernel's audit has it, and that of socket()."""
_LOCAL = (socket.AF_UNIX, 16)
"""Families that are let through: unix sockets, and netlink, by which the C library asks for interfaces."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def available() -> bool:
    """Whether this kernel takes a filter and this machine's numbers are known."""
    return (platform.machine() in _SOCKET and _libc.prctl(_SET_SECCOMP, _MODE_FILTER, None, 0, 0) != 0
            and ctypes.get_errno() == errno.EFAULT)


def local_sockets_only() -> None:
    """Refuse all other sockets to this thread and all that it starts, for good; OSError where the kernel refuses."""
    code = _code(*_SOCKET[platform.machine()])
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)):
        if _libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp: {os.strerror(number)}")


def _code(arch: int, socket_call: int) -> bytes:
    """The filter: each step is (code, value, steps to skip if true, if false)."""
    refuse = _ERRNO | errno.EACCES
    steps = [(_LOAD, _ARCH_AT, 0, 0), (_EQUAL, arch, 1, 0), (_RETURN, refuse, 0, 0),
             (_LOAD, _NUMBER_AT, 0, 0), (_AT_LEAST, _X32, 0, 1), (_RETURN, refuse, 0, 0),
             (_EQUAL, _IO_URING, 0, 1), (_RETURN, _ERRNO | errno.ENOSYS, 0, 0),
             (_EQUAL, socket_call, 1, 0), (_RETURN, _ALLOW, 0, 0),
             (_LOAD, _FIRST_ARGUMENT_AT, 0, 0),
             *((_EQUAL, family, len(_LOCAL) - place, 0) for place, family in enumerate(_LOCAL)),
             (_RETURN, refuse, 0, 0), (_RETURN, _ALLOW, 0, 0)]
    return b"".join(struct.pack("=HBBI", code, yes, no, value) for code, value, yes, no in steps)
