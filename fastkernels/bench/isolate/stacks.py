"""The Python stacks of a process that does not answer, taken from outside before it is ended; no torch."""

import faulthandler
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

from fastkernels.bench.isolate import process_tree

SIGNAL = signal.SIGUSR2
"""Has a worker write its stacks to its log; the handler is C code, which runs beside a call that never returns."""

WAIT_S = 1.0
"""Longest wait for the stacks."""

QUIET_S = 0.1
"""The log has stood still for so long: the stacks are written."""

MOST = 4
"""Processes whose stacks are asked for."""

HEAD = "Python stack when the time was up (most recent call first):"

_FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line')
_HARNESS = str(Path(__file__).resolve().parents[1])
_RUNTIME = str(Path(__file__).resolve().parents[2] / "runtime")
_LIBRARIES = "/lib/python"


def answer_with_stacks() -> None:
    """Have the calling process write its stacks to its standard error when SIGNAL comes."""
    faulthandler.register(SIGNAL, file=2, all_threads=True, chain=False)


def ask(root: int, log: int) -> str:
    """The stacks of `root` and what it has started, frames of the harness and of libraries left out; empty for none.

    log: descriptor of the file that their standard error goes to.
    """
    start = os.fstat(log).st_size
    asked = [pid for pid in process_tree.members(root) if process_tree.catches(pid, SIGNAL)][:MOST]
    for pid in asked:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(pid, SIGNAL)
    end, size, since = time.monotonic() + WAIT_S, start, time.monotonic()
    while asked and time.monotonic() < end and (size == start or time.monotonic() - since < QUIET_S):
        time.sleep(QUIET_S / 10)
        now = os.fstat(log).st_size
        if now != size:
            size, since = now, time.monotonic()
    return own_frames(os.pread(log, max(0, size - start), start).decode(errors="replace"))


def own_frames(text: str) -> str:
    """The candidate's part of what faulthandler has written: threads without a frame of its own are left out."""
    kept: list[str] = []
    thread = ""
    for line in text.splitlines():
        frame = _FRAME.match(line)
        if frame is None:
            thread = line if "most recent call first" in line else thread
        elif not frame["file"].startswith((_HARNESS, _RUNTIME, "<frozen")) and _LIBRARIES not in frame["file"]:
            if thread:
                kept += [] if thread.startswith("Current") or not kept else ["another thread:"]
                thread = ""
            kept.append(line)
    return "\n".join([HEAD, *kept]) if kept else ""
