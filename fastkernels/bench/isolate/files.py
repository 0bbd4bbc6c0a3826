"""Anonymous memory files, which the supervisor creates and both workers inherit; no torch."""

import os
import tempfile

ARENAS = 4
"""Files between two workers: weights, inputs, outputs, and what both sides' timed calls work on."""


def create_file() -> int:
    """Descriptor of a new anonymous memory file that can grow but not shrink; a deleted file where there is none."""
    if hasattr(os, "memfd_create"):
        import fcntl

        fd = os.memfd_create("fastkernels-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # a shorter file would kill the reader
        return fd
    with tempfile.TemporaryFile(prefix="fastkernels-arena-") as file:
        return os.dup(file.fileno())
