"""Says what is running while nothing else has been printed for a while."""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import pytest

WIDTH = 79
"""Columns of the line, so that it can be overwritten on a narrow terminal."""
QUIET_TTY_S = 5.0
"""Seconds of silence before a terminal shows what runs; the line is then renewed each second."""
QUIET_PLAIN_S = 30.0
"""Seconds of silence before a log gets a line."""


class Progress:
    """A thread that prints `describe()` while the run is silent; on a terminal the line is overwritten.

    It writes past pytest's capture, which holds standard output while a test runs.
    """

    def __init__(self, reporter: pytest.TerminalReporter, describe: Callable[[], str]) -> None:
        """Make it while pytest captures nothing, such as at the start of the session."""
        self.reporter = reporter
        self.describe = describe
        self.stream = _uncaptured_stdout()
        self.on_line = False
        self.last = time.monotonic()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="fastkernels-progress", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self.thread.start()

    def write_line(self, text: str, **markup: bool) -> None:
        """Print a line of its own, in place of the progress line."""
        with self.lock:
            self._erase()
            self.reporter.ensure_newline()
            self.reporter.write_line(text, **markup)
            self.reporter.flush()
            self.last = time.monotonic()

    def write(self, text: str) -> None:
        """Print a piece of text as it is, in place of the progress line."""
        with self.lock:
            self._erase()
            self._write(text)
            self.last = time.monotonic()

    def stop(self) -> None:
        """End the thread and erase its line."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()
        with self.lock:
            self._erase()
            if self.stream is not None:
                self.stream.close()
                self.stream = None

    def _erase(self) -> None:
        if self.on_line:
            self._write("\r" + " " * WIDTH + "\r")
            self.on_line = False

    def _loop(self) -> None:
        while not self.ended.wait(1.0):
            with self.lock:
                silent_s = time.monotonic() - self.last
                if self.reporter.isatty and silent_s >= QUIET_TTY_S:
                    self._write("\r" + self.describe()[:WIDTH].ljust(WIDTH))
                    self.on_line = True
                elif not self.reporter.isatty and silent_s >= QUIET_PLAIN_S:
                    self._write(self.describe() + "\n")
                    self.last = time.monotonic()

    def _write(self, text: str) -> None:
        if self.stream is None:
            self.reporter.write(text, flush=True)
        else:
            self.stream.write(text)
            self.stream.flush()


def _uncaptured_stdout() -> TextIO | None:
    """A second handle on the standard output of now; None where that is no file."""
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "w", errors="backslashreplace")
    except (OSError, ValueError, AttributeError):
        return None
