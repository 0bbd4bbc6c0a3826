"""Watches what a candidate's tree of processes takes while the supervisor waits for it; no torch."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastkernels.bench.isolate import process_tree
from fastkernels.results import Verdict

INTERVAL_S = 0.25
"""Least time between two looks; each reads a line for every process of the machine, some milliseconds."""

MAX_PROCESSES = 256
MAX_THREADS = 4096
"""Most of a whole tree. Compilers start a process for each core, OpenMP a thread for each."""

START_BYTES = {"cpu": 1024**3, "cuda": 4 * 1024**3}
"""What the tree may take beyond the limit of its memory, by device: the worker's own start, with CUDA's context, and
helpers such as compilers."""


@dataclass(frozen=True)
class Limits:
    """What a candidate's tree of processes may take; None for no limit."""

    memory_bytes: int | None = None
    """Resident memory beyond the arenas and START_BYTES."""
    disk_bytes: int | None = None
    """Files in the scratch directory and the folder for what is compiled."""


class Watch:
    """One tree under limits, of a worker on `cpu` or `cuda`."""

    def __init__(self, pid: int, written: list[str], arenas: list[int], limits: Limits, device: str) -> None:
        self._pid, self._written, self.limits = pid, written, limits
        self._start_bytes = START_BYTES[device]
        self._arenas = [os.fstat(fd) for fd in arenas]
        self._fds = arenas
        self._next = time.monotonic()

    def look(self) -> tuple[Verdict, str] | None:
        """What is over its limit, or None; does nothing within INTERVAL_S of the last time."""
        if time.monotonic() < self._next:
            return None
        found = self._over()
        self._next = time.monotonic() + INTERVAL_S
        return found

    def _over(self) -> tuple[Verdict, str] | None:
        pids = process_tree.members(self._pid)
        if len(pids) > MAX_PROCESSES:
            return Verdict.LIMIT_EXCEEDED, f"{len(pids)} processes (at most {MAX_PROCESSES})"
        threads = sum(process_tree.threads(pid) for pid in pids)
        if threads > MAX_THREADS:
            return Verdict.LIMIT_EXCEEDED, f"{threads} threads (at most {MAX_THREADS})"
        memory = self.limits.memory_bytes
        if memory is not None and (taken := self._memory(pids, memory)):
            return Verdict.OUT_OF_MEMORY, f"{_gib(taken)} of memory in all processes (at most {_gib(memory)} and " \
                                          f"{_gib(self._start_bytes)} for their start)"
        disk = self.limits.disk_bytes
        if disk is not None and (written := sum(map(_size, self._written))) > disk:
            return Verdict.LIMIT_EXCEEDED, f"{_gib(written)} in files (at most {_gib(disk)})"
        return None

    def _memory(self, pids: list[int], limit: int) -> int:
        """Bytes that the tree takes where that is too much, else 0.

        What each process maps is summed first, which is cheap; only if that is too much do shared pages count by
        their share, for which the kernel walks all pages.
        """
        allowed = limit + self._start_bytes + sum(os.fstat(fd).st_size for fd in self._fds)
        known = {(stat.st_dev, stat.st_ino) for stat in self._arenas}
        unmapped = sum(process_tree.memory_files(pid, known) for pid in pids)
        if sum(process_tree.resident_bytes(pid) for pid in pids) + unmapped <= allowed:
            return 0
        taken = max(sum(process_tree.shared_out_bytes(pid) for pid in pids), unmapped)
        return taken if taken > allowed else 0


def _size(folder: str) -> int:
    """Bytes that the files in a directory take on disk."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                total += os.lstat(Path(where) / name).st_blocks * 512
    return total


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
