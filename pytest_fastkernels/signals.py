"""SIGTERM and SIGHUP end a run as Ctrl+C does: what was finished is written and printed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What SLURM, CI and a closed terminal send."""


class Terminated(KeyboardInterrupt):
    """The run was told to end by a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"by {signal.Signals(signum).name}")
        self.exit_status = 128 + signum
        """As a shell reports it: 143 for SIGTERM."""


class EndingSignals:
    """Handlers for signals that else would end the process at once; those that somebody handles or ignores stay."""

    def __init__(self) -> None:
        self._taken: list[int] = []
        self._came = False

    def take(self) -> None:
        """Handle them from now on; does nothing in a thread, which Python allows no handlers."""
        if _in_main_thread() and not self._taken:
            self._taken = [signum for signum in ENDING if signal.getsignal(signum) is signal.SIG_DFL]
            for signum in self._taken:
                signal.signal(signum, self._end)

    def give_back(self) -> None:
        """Handle them no more."""
        for signum in self._taken:
            signal.signal(signum, signal.SIG_DFL)
        self._taken = []

    def _end(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if not self._came:  # the run ends already, and whoever cannot wait sends SIGKILL
            self._came = True
            raise Terminated(signum)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl+C and the ending signals off within the block, which must be short; what came then is forgotten."""
    held = {}
    if _in_main_thread():
        for signum in (signal.SIGINT, *ENDING):
            before = signal.getsignal(signum)
            if callable(before):
                held[signum] = before
                signal.signal(signum, lambda *_: None)
    try:
        yield
    finally:
        for signum, before in held.items():
            signal.signal(signum, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
