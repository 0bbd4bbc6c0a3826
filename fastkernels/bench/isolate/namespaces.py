"""Puts the calling process's continuation into namespaces of its own, with an init beside it and a relay outside.

The process that the supervisor started becomes the relay: it waits and ends as the worker has ended, by the same
signal or status. In between stands the namespaces' init, whose end ends everything in them. No torch, one thread.
"""

import ctypes
import os
import select
import signal
import struct
from collections.abc import Collection, Iterable
from typing import NoReturn

from fastkernels.bench.isolate import process_tree

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
KINDS = {"pid": _NEWPID, "ipc": _NEWIPC, "network": _NEWNET, "mount": _NEWNS}
"""What a process may have of its own; a PID namespace comes with one of mounts, for its /proc."""

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_CHILD_SUBREAPER = 1, 24, 36
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
"""All that root's candidate keeps: reading files of other users, as a container's root often must."""

SHM_BYTES = 512 * 1024**2
"""Size of the private /dev/shm."""

_libc = ctypes.CDLL(None, use_errno=True)


def enter(parent: int, kept: Iterable[int], hidden: Iterable[str], kinds: Collection[str] = tuple(KINDS)) -> None:
    """Return in a process that has namespaces of its own, those of PIDs and mounts among them, without capabilities.

    parent: the supervisor, whose death kills all. kept: descriptors that the worker alone keeps. hidden: files and
    directories that are empty for the worker. kinds: of KINDS. OSError where the kernel refuses.
    """
    _unshare(kinds)
    die_with(parent)  # again: the kernel forgets it when capabilities change
    alive, held = os.pipe()
    told, tell = os.pipe()
    init = os.fork()
    if init:
        _close(alive, tell, *kept)
        _relay(init, told)
    os.close(held)
    _call(_libc.prctl(_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    if select.select([alive], [], [], 0)[0]:  # the relay ended before the call
        os._exit(1)
    _mount(hidden, own_processes=True)
    worker = os.fork()
    if worker:
        _close(*kept)
        _init(worker, tell)
    _close(alive, told, tell)
    os.setsid()
    _drop_capabilities()


def enter_tree(parent: int, kept: Iterable[int], hidden: Iterable[str] = (), kinds: Collection[str] = ()) -> None:
    """Return in a child of a process that inherits every orphan and kills all of them when the worker or `parent` ends.

    For where there is no PID namespace; as `enter` otherwise, without capabilities as well.
    """
    _call(_libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    signal.signal(signal.SIGTERM, lambda *_: _end_tree())
    die_with(parent, signal.SIGTERM)
    relay = os.getpid()
    worker = os.fork()
    if not worker:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with(relay)
        os.setsid()
        if kinds:
            _unshare(kinds)
            _mount(hidden, own_processes=False)
        _drop_capabilities()
        die_with(relay)  # again, as above
        return
    _close(*kept)
    status = _reap_until(worker)
    _kill_children()
    _end_as(status)


def die_with(parent: int, by: int = signal.SIGKILL) -> None:
    """Have the kernel end this process by a signal when its parent dies: a hung candidate reads no end of file."""
    _call(_libc.prctl(_SET_PDEATHSIG, by), "prctl")
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def _unshare(kinds: Iterable[str]) -> None:
    if os.getuid() != 0:
        _own_user_namespace()
    _call(_libc.unshare(sum(KINDS[kind] for kind in kinds)), "unshare")


def _own_user_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    _call(_libc.unshare(_NEWUSER), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mount(hidden: Iterable[str], own_processes: bool) -> None:
    """A /dev/shm of its own, nothing in `hidden`; with a PID namespace a /proc of its processes."""
    plain = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount_one("none", "/", "", _MS_REC | _MS_PRIVATE)
    if own_processes:
        _mount_one("proc", "/proc", "proc", plain)
    if os.path.isdir("/dev/shm"):
        _mount_one("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={SHM_BYTES},mode=1777")
    for path in hidden:
        if os.path.isdir(path):
            _mount_one("tmpfs", path, "tmpfs", plain | _MS_RDONLY, "size=4k")
        elif os.path.exists(path):
            _mount_one("/dev/null", path, "", _MS_BIND)


def _mount_one(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _call(result, f"mount {target}")


def _drop_capabilities() -> None:
    keep = 1 << _CAP_DAC_OVERRIDE if os.getuid() == 0 else 0
    for number in range(64):
        if not keep >> number & 1:
            _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)  # numbers beyond the kernel's last are refused, and need not be
    header = struct.pack("=II", _CAPABILITY_VERSION_3, 0)
    _call(_libc.capset(header, struct.pack("=6I", keep, keep, 0, 0, 0, 0)), "capset")


def _init(worker: int, tell: int) -> NoReturn:
    """Reap until the worker ends, and say how; the kernel then kills whatever is left in the namespaces."""
    os.write(tell, struct.pack("=i", _reap_until(worker)))
    os._exit(0)


def _relay(init: int, told: int) -> NoReturn:
    os.waitpid(init, 0)  # returns once the kernel has killed all in the namespaces
    status = os.read(told, 4)
    _end_as(struct.unpack("=i", status)[0] if status else signal.SIGKILL)


def _reap_until(worker: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker:
            return status


def _end_as(status: int) -> NoReturn:
    """End as the worker did."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _end_tree() -> NoReturn:
    _kill_children()
    os._exit(1)


def _kill_children() -> None:
    """Kill everything below this process; whoever is orphaned on the way comes here and is killed next."""
    while True:
        for pid in process_tree.members(os.getpid())[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _close(*descriptors: int) -> None:
    for fd in descriptors:
        os.close(fd)


def _call(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
