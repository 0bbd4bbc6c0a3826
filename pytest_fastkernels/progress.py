"""Says what is running while nothing else has been printed for a while."""

import threading
import time
from collections.abc import Callable

import pytest

WIDTH = 79
"""Columns of the line, so that it can be overwritten on a narrow terminal."""
QUIET_TTY_S = 5.0
"""Seconds of silence before a terminal shows what runs; the line is then renewed each second."""
QUIET_PLAIN_S = 30.0
"""Seconds of silence before a log gets a line."""


class Progress:
    """A thread that prints `describe()` while the run is silent; on a terminal the line is overwritten."""

    def __init__(self, reporter: pytest.TerminalReporter, describe: Callable[[], str]) -> None:
        self.reporter = reporter
        self.describe = describe
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
            self.last = time.monotonic()

    def stop(self) -> None:
        """End the thread and erase its line."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()
        with self.lock:
            self._erase()

    def _erase(self) -> None:
        if self.on_line:
            self.reporter.rewrite("", erase=True)
            self.reporter.rewrite("")
            self.on_line = False

    def _loop(self) -> None:
        while not self.ended.wait(1.0):
            with self.lock:
                silent_s = time.monotonic() - self.last
                if self.reporter.isatty and silent_s >= QUIET_TTY_S:
                    self.reporter.rewrite(self.describe()[:WIDTH], erase=True)
                    self.on_line = True
                elif not self.reporter.isatty and silent_s >= QUIET_PLAIN_S:
                    self.reporter.write_line(self.describe())
                    self.last = time.monotonic()
