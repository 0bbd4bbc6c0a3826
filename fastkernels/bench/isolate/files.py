"""Anonymous memory files, which the supervisor creates and both workers inherit, and ends of logs; no torch."""

import os
import tempfile

ARENAS = 4
"""Files between two workers: weights, inputs, outputs, and `shared`, the room of a side's timed sections on CUDA."""


def create_file() -> int:
    """Descriptor of a new anonymous memory file that can grow but not shrink; a deleted file where there is none."""
    if hasattr(os, "memfd_create"):
        import fcntl

        fd = os.memfd_create("fastkernels-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # a shorter file would kill the reader
        return fd
    with tempfile.TemporaryFile(prefix="fastkernels-arena-") as file:
        return os.dup(file.fileno())


def tail_of(fd: int, most_bytes: int) -> str:
    """The end of a file of text, without blanks around it."""
    start = max(0, os.fstat(fd).st_size - most_bytes)
    return os.pread(fd, most_bytes, start).decode(errors="replace").strip()
