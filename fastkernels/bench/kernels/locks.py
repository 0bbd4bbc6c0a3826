"""Locks between processes: one timing section at a time per device, one grading of equal scenarios at a time."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_POLL_S = 0.01


def lock_root() -> Path:
    """This user's directory for lock files on this machine."""
    root = Path(tempfile.gettempdir()) / f"fastkernels-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def log_lock_dir(log_path: Path) -> Path:
    """Where the processes of one run find each other's locks."""
    name = hashlib.sha256(str(log_path.resolve()).encode()).hexdigest()[:16]
    return lock_root() / f"run-{name}"


@contextmanager
def timing_lock(device: str) -> Iterator[float]:
    """Hold the device's timing section; gives the seconds that were spent waiting for it.

    On CUDA there is one per CUDA_VISIBLE_DEVICES, so that workers with a GPU of their own do not wait for each other.
    """
    visible = re.sub(r"\W+", "-", os.environ.get("CUDA_VISIBLE_DEVICES", "all")) if device == "cuda" else "all"
    with _held(lock_root() / f"timing-{device}-{visible}.lock") as waited_s:
        yield waited_s


@contextmanager
def scenario_lock(directory: Path, key: str) -> Iterator[float]:
    """Hold one key's lock, so that processes of one run grade equal scenarios once; gives the seconds waited."""
    directory.mkdir(parents=True, exist_ok=True)
    with _held(directory / f"{key}.lock") as waited_s:
        yield waited_s


@contextmanager
def _held(path: Path) -> Iterator[float]:
    started = time.monotonic()
    with FileLock(path).acquire(poll_interval=_POLL_S):
        yield time.monotonic() - started
