"""Locks between processes: whoever times has the device alone, and equal scenarios are graded one at a time."""

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fastkernels.bench.isolate.devices import kind_of

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
def timing_section(device: str) -> Iterator[float]:
    """Hold the device alone; gives the seconds that were spent waiting for it."""
    with _section(device, fcntl.LOCK_EX) as waited_s:
        yield waited_s


@contextmanager
def work_section(device: str) -> Iterator[float]:
    """Hold a share of the device, for all work but timing: others may work as well, nobody times meanwhile."""
    with _section(device, fcntl.LOCK_SH) as waited_s:
        yield waited_s


@contextmanager
def _section(device: str, kind: int) -> Iterator[float]:
    """On CUDA all GPUs of one CUDA_VISIBLE_DEVICES are one device, so that workers with GPUs of their own do not wait.

    Everyone passes a gate first, which whoever waits to time keeps shut: further work cannot put timing off for ever.
    """
    on_cuda = kind_of(device) == "cuda"
    visible = re.sub(r"\W+", "-", os.environ.get("CUDA_VISIBLE_DEVICES", "all")) if on_cuda else "all"
    name = f"{kind_of(device)}-{visible}"
    started = time.monotonic()
    with (lock_root() / f"{name}.lock").open("w") as held:
        with (lock_root() / f"{name}.gate").open("w") as gate:
            fcntl.flock(gate, kind)
            fcntl.flock(held, kind)
        yield time.monotonic() - started


@contextmanager
def scenario_lock(directory: Path, key: str) -> Iterator[None]:
    """Hold one key's lock, so that processes of one run grade equal scenarios once."""
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / f"{key}.lock").acquire(poll_interval=_POLL_S):
        yield
