"""Holds a tree of processes still: while the other side is timed nothing of this one runs on a core."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from fastkernels.bench.isolate import process_tree
from fastkernels.errors import FastKernelsError

STOP_S = 2.0
"""Longest that a tree may take to stop: a thread within a driver's call stops at its end."""

MOST_AWAKE_S = 0.5e-3
"""CPU time that a stopped tree may show: the kernel books the end of a running slice after the signal."""

_RESTING = (b"T", b"t", b"Z", b"X")


class AwakeError(FastKernelsError):
    """A tree that was stopped has run, or did not stop."""


class Standstill:
    """One tree, stopped by SIGSTOP and let go by SIGCONT.

    A process can have itself continued by a timer of its own, so what the tree runs meanwhile is measured.
    """

    def __init__(self, root: int, alone: bool = False) -> None:
        """root: process id; all that descends from it is stopped too, unless it is known to stand `alone`."""
        self._root, self._family = root, None if alone else process_tree.Family(root)
        self._known = [root]
        self._cpu_s = 0.0

    @property
    def members(self) -> Sequence[int]:
        """Process ids of the tree when it was last stopped, the root first."""
        return self._known

    def stop(self) -> None:
        """Stop every process; returns once none is left that could start another. AwakeError after STOP_S."""
        end = time.monotonic() + STOP_S
        waiting = self._known
        while waiting:
            if time.monotonic() > end:
                raise AwakeError(f"processes {waiting} did not stop within {STOP_S:g} s")
            for pid in waiting:
                _signal(pid, signal.SIGSTOP)
            self._known = [self._root] if self._family is None else self._family.members()
            waiting = [pid for pid in self._known if process_tree.state(pid) not in _RESTING]
        self._cpu_s = self._used_s()

    def check(self) -> None:
        """AwakeError where the tree has run since it was stopped."""
        ran_s = self._used_s() - self._cpu_s
        if ran_s > MOST_AWAKE_S:
            raise AwakeError(f"its processes ran for {ran_s * 1e3:.1f} ms while they were stopped")

    def go_on(self) -> None:
        """Let the tree run again."""
        for pid in reversed(self._known):
            _signal(pid, signal.SIGCONT)

    def _used_s(self) -> float:
        return sum(map(process_tree.own_cpu_s, self._known))


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.kill(pid, number)
