"""What a process and its descendants take, read from outside: CPU seconds, memory, processes and threads; no torch."""

import os
import stat
import time
from collections import defaultdict
from collections.abc import Container
from pathlib import Path

_PROC = Path("/proc")
_CPUCLOCK_SCHED = 2
"""Kind of a process's CPU clock that counts nanoseconds of running, dead threads included."""

_PARENT, _REAPED, _THREADS, _CORE = 1, slice(13, 15), 17, 36
"""Fields ppid, cutime and cstime, num_threads, processor of /proc/PID/stat, counted after the command's name."""


def members(root: int) -> list[int]:
    """Process ids of `root` and all its descendants that live or wait to be reaped."""
    children = defaultdict(list)
    for name in os.listdir(_PROC):
        if name.isdigit() and (fields := _stat(int(name))):
            children[int(fields[_PARENT])].append(int(name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def own_cpu_s(pid: int) -> float:
    """CPU seconds of one process's threads so far, its children left out; 0 once it is gone."""
    try:
        return time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED) / 1e9
    except OSError:
        return 0.0


class Family:
    """`members` of one root again and again: only processes that have come since are read, which takes 0.3 ms, not 3.

    A process that has taken a dead one's number since the last time is missed: numbers come round after some 10000.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._parents: dict[int, int] = {}

    def members(self) -> list[int]:
        """The root and all its descendants."""
        now = {int(name) for name in os.listdir(_PROC) if name.isdigit()}
        known = {pid: parent for pid, parent in self._parents.items() if pid in now and parent in now}
        for pid in now - known.keys():
            if fields := _stat(pid):
                known[pid] = int(fields[_PARENT])
        self._parents = known
        children = defaultdict(list)
        for pid, parent in known.items():
            children[parent].append(pid)
        found = [self._root]
        for pid in found:
            found += children[pid]
        return found


def cpu_s(root: int) -> float:
    """CPU seconds of the tree so far: all threads, dead ones included, and the children that were reaped.

    A living process counts in nanoseconds, though the kernel books a running thread's time at its next tick only (1 to
    10 ms); a reaped child counts in ticks of 10 ms.
    """
    return sum(_process_cpu_s(pid) for pid in members(root))


def state(pid: int) -> bytes:
    """Letter of a process's state as /proc gives it, such as b"T" for stopped; b"X" once it is gone."""
    fields = _stat(pid)
    return fields[0] if fields else b"X"


def threads(pid: int) -> int:
    """Threads of one process; 0 once it has ended."""
    fields = _stat(pid)
    return int(fields[_THREADS]) if fields else 0


def core(pid: int) -> int:
    """Logical core that its main thread runs on, or ran on last; 0 once it is gone."""
    fields = _stat(pid)
    return int(fields[_CORE]) if fields else 0


def resident_bytes(pid: int) -> int:
    """Resident anonymous and shared memory of one process, pages shared with others included; files do not count."""
    return _kib(pid, "status", ("RssAnon:", "RssShmem:"))


def shared_out_bytes(pid: int) -> int:
    """The same by shares: a page that n processes map counts 1/n. The kernel walks all pages for it."""
    return _kib(pid, "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))


def memory_files(pid: int, known: Container[tuple[int, int]]) -> int:
    """Bytes in open files without a name, such as memory files, but for `known` ones (device, inode)."""
    sizes: dict[tuple[int, int], int] = {}
    folder = _PROC / str(pid) / "fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it has ended
        return 0
    for name in names:
        try:
            found = os.stat(folder / name)
        except OSError:  # closed meanwhile
            continue
        key = found.st_dev, found.st_ino
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and key not in known:
            sizes[key] = found.st_blocks * 512
    return sum(sizes.values())


def _kib(pid: int, name: str, keys: tuple[str, ...]) -> int:
    try:
        lines = (_PROC / str(pid) / name).read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(keys))


def _process_cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return own_cpu_s(pid) + sum(map(int, fields[_REAPED])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat from the state on; none for a process that is gone."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb", buffering=0) as file:  # for every process of the machine: no text layer
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []
