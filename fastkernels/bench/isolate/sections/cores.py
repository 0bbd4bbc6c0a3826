"""The processor core that both sides' calls are launched from: one for both, which shares nothing with the clock's.

The clock's thread and a side's spin at the same time. On two threads of one physical core each slows the other, and
launching a graph of hundreds of calls then takes longer on the side that happens to lie there.
"""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from fastkernels.bench.isolate import process_tree

_TOPOLOGY = Path("/sys/devices/system/cpu")


def core_beside(own: int, allowed: Collection[int], preferred: int, topology: Path = _TOPOLOGY) -> int | None:
    """A logical core among `allowed` on another physical one than `own`, `preferred` where it is; None for none."""
    others = sorted(set(allowed) - _siblings(own, topology))
    if not others:
        return None
    return preferred if preferred in others else others[-1]


class SharedCore:
    """Holds the main threads of both sides' processes on one core, and this thread on its own.

    A process may leave the core again; what it finds elsewhere is at best as good.
    """

    def __init__(self) -> None:
        self._before: dict[int, set[int]] = {}

    def take(self, pids: Sequence[int]) -> int | None:
        """The core, that of the first process where it can be.

        None, with all left where they may run, where this machine has no second physical core that this process may
        use, or does not let it place the others.
        """
        own = process_tree.core(os.getpid())
        core = core_beside(own, os.sched_getaffinity(0), process_tree.core(pids[0]))
        if core is None:
            return None
        try:
            for pid in (0, *pids):
                self._before[pid] = os.sched_getaffinity(pid)
                os.sched_setaffinity(pid, {core} if pid else {own})
        except OSError:
            self.give_back()
            return None
        return core

    def give_back(self) -> None:
        """Let all run where they might before."""
        for pid, cores in self._before.items():
            with suppress(OSError):  # it has ended, or could not be placed in the first place
                os.sched_setaffinity(pid, cores)
        self._before = {}


def _siblings(core: int, topology: Path) -> set[int]:
    """Logical cores of the same physical one; the core alone where the system does not say."""
    try:
        text = (topology / f"cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return {core}
    found = {core}
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
