"""Landlock by its three system calls: what this process and its children may write to, connect to and signal; no torch.

Packages that wrap it are one-person projects of a few releases that stop at an older ABI; the interface is three calls.
"""

import ctypes
import os
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38

_WRITE_FILE = 1 << 1
_TRUNCATE = 1 << 14
_WRITES_V1 = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Writing, removing and making of every kind."""
_REFER, _REFER_ABI, _TRUNCATE_ABI = 1 << 13, 2, 3
_BIND_CONNECT_TCP, _TCP_ABI = 0b11, 4
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL, _SCOPE_ABI = 0b01, 0b10, 6

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("fd", ctypes.c_int32))


def abi() -> int:
    """Version of the kernel's Landlock; 0 where it has none or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def restrict(writable: Iterable[str], abstract_sockets: bool, tcp: bool = False) -> None:
    """Let this process and all its children write to nothing but what lies under `writable`; OSError where that fails.

    From ABI 4 on neither bind nor connect TCP unless `tcp`; from 6 on signal nothing outside, and reach abstract unix
    sockets outside only if `abstract_sockets`. From any ABI on no ptrace of, and no memory or descriptors from,
    processes outside, no mounting, and no gain of privileges by running files. Paths that do not exist are left out.
    """
    version = abi()
    writes = _WRITES_V1 | (_REFER if version >= _REFER_ABI else 0) | (_TRUNCATE if version >= _TRUNCATE_ABI else 0)
    scoped = _SCOPE_SIGNAL | (0 if abstract_sockets else _SCOPE_ABSTRACT_UNIX)
    closed = _BIND_CONNECT_TCP if version >= _TCP_ABI and not tcp else 0
    rules = _Ruleset(writes, closed, scoped if version >= _SCOPE_ABI else 0)
    size = 24 if version >= _SCOPE_ABI else 16 if version >= _TCP_ABI else 8
    ruleset = _call(_libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0))
    try:
        for path in writable:
            _allow(ruleset, path, writes)
        _call(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _call(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, writes: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = _Beneath(writes if os.path.isdir(path) else writes & (_WRITE_FILE | _TRUNCATE), fd)
        _call(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(fd)


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return int(result)
