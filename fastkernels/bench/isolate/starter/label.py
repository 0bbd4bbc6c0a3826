"""Has /proc tell of a forked worker what it would tell of one that was executed: its words and its environment."""

import ctypes
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOM_BYTES = 8192
"""What a starter's own words and environment leave free for those of its workers."""

_BOUNDS = slice(45, 49)
"""Fields arg_start, arg_end, env_start, env_end of /proc/PID/stat, counted after the command's name."""


def relabel(words: Iterable[str], environment: Mapping[str, str]) -> None:
    """Write over the memory that /proc/PID/cmdline and /proc/PID/environ show; what does not fit is left out.

    Call it once nothing refers to the old environment any more. This project's own variables come first.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    arg_start, arg_end, env_start, env_end = map(int, fields[_BOUNDS])
    names = sorted(environment, key=lambda name: not name.startswith("FASTKERNELS_"))
    _write(arg_start, arg_end, words)
    _write(env_start, env_end, (f"{name}={environment[name]}" for name in names))


def _write(start: int, end: int, texts: Iterable[str]) -> None:
    data = b""
    for text in texts:
        word = text.encode(errors="surrogateescape") + b"\0"
        if len(data) + len(word) <= end - start:
            data += word
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, data, len(data))
