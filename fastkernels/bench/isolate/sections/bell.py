"""Starts and ends a timed section between two processes, through a page that both see: no system call, no wake-up."""

import mmap
import os
import time
from collections.abc import Callable

from fastkernels.errors import FastKernelsError

WORDS = 2**16
"""64-bit words in the memory; the first few are the bell's, the rest is a table that a side may hand over."""

_READY, _CALLED, _AWAKE, _RUNG, _DONE, _COUNT, _TABLE = 0, 1, 2, 3, 4, 5, 8
_END = 2**64 - 1
_LOOKS = 2000
"""Looks at a word between two looks at the clock, about 0.1 ms."""


class LateError(FastKernelsError):
    """The other process did not come to a section, or not to its end, in time."""


class Bell:
    """Words of shared memory. A side writes that it is ready and done; the trusted worker rings.

    A side may write anything there: it is its own time that then runs, or its own table that is wrong.
    """

    def __init__(self, fd: int) -> None:
        """fd: a memory file that both processes have, of any size so far."""
        if os.fstat(fd).st_size < WORDS * 8:
            os.ftruncate(fd, WORDS * 8)
        self._words = memoryview(mmap.mmap(fd, WORDS * 8)).cast("Q")

    def reset(self) -> None:
        """Trusted worker: forget all sections, before the side is asked to serve."""
        for word in range(_TABLE):
            self._words[word] = 0

    def call(self, number: int) -> None:
        """Trusted worker: have the side say that it runs again, before section `number`."""
        self._words[_CALLED] = number

    def ring(self, number: int) -> None:
        """Trusted worker: let section `number`, counted from 1, begin."""
        self._words[_RUNG] = number

    def end(self) -> None:
        """Trusted worker: no more sections."""
        self._words[_RUNG] = _END

    def wait_ready(self, number: int, timeout_s: float, is_alive: Callable[[], bool]) -> None:
        """Trusted worker: until the side waits for section `number`; LateError where it is gone or takes longer."""
        self._wait(_READY, number, timeout_s, is_alive)

    def wait_awake(self, number: int, timeout_s: float, is_alive: Callable[[], bool]) -> None:
        """Trusted worker: until the side has answered `call`; LateError."""
        self._wait(_AWAKE, number, timeout_s, is_alive)

    def wait_done(self, number: int, timeout_s: float, is_alive: Callable[[], bool]) -> None:
        """Trusted worker: until the side says that section `number` is done; LateError as well where it has failed."""
        self._wait(_DONE, number, timeout_s, is_alive)

    def table(self) -> list[int]:
        """Trusted worker: what the side has laid beside its last section."""
        count = min(int(self._words[_COUNT]), WORDS - _TABLE)
        return list(self._words[_TABLE:_TABLE + count])

    def serve(self, section: Callable[[], list[int]]) -> int:
        """Side: run a section each time the bell rings, until the end; how many there were.

        What `section` returns is laid into the table.
        """
        words, number = self._words, 1
        while True:
            words[_READY] = number
            while (rung := words[_RUNG]) != number:
                if rung == _END:
                    return number - 1
                if words[_CALLED] == number:
                    words[_AWAKE] = number
            try:
                table = section()
            except BaseException:
                words[_DONE] = _END
                raise
            for place, word in enumerate(table, start=_TABLE):
                words[place] = word
            words[_COUNT] = len(table)
            words[_DONE] = number
            number += 1

    def _wait(self, word: int, number: int, timeout_s: float, is_alive: Callable[[], bool]) -> None:
        words, end = self._words, time.monotonic() + timeout_s
        while time.monotonic() < end:
            for _ in range(_LOOKS):
                if words[word] == number:
                    return
            if words[_DONE] == _END or not is_alive():
                raise LateError("a timed section failed")
        raise LateError(f"no answer in a timed section within {timeout_s:g} s")
