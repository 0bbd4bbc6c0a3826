"""Locks between processes: whoever times has the device alone, and equal scenarios are graded one at a time."""

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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


@dataclass(frozen=True)
class DeviceShare:
    """One attempt's share of its device, for all that it does but timing.

    Only work on the device may keep others from timing. On a CPU imports and compilation are such work, so the share is
    held throughout. On CUDA it is held for each group of requests that reach the GPU; whoever waits to time gets its
    turn between two of them, and a candidate is imported, built and compiled beside another's timing.
    """

    device: str
    waited: Callable[[float], None]
    """Told how many seconds each section was waited for."""

    @contextmanager
    def throughout(self) -> Iterator[None]:
        """Around everything."""
        with self._held() if kind_of(self.device) != "cuda" else nullcontext():
            yield

    @contextmanager
    def on_the_device(self) -> Iterator[None]:
        """Around requests that reach the device, within `throughout`."""
        with self._held() if kind_of(self.device) == "cuda" else nullcontext():
            yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        with work_section(self.device) as waited_s:
            self.waited(waited_s)
            yield


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
            _take(gate, kind)
            _take(held, kind)
        yield time.monotonic() - started


def _take(file: IO[str], kind: int) -> None:
    """Lock a file; a mark says meanwhile that this process waits for another one."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        mark = lock_root() / f"waiting-{os.getpid()}"
        mark.write_text(str(os.getppid()))
        try:
            fcntl.flock(file, kind)
        finally:
            mark.unlink(missing_ok=True)


def waiting_since(pid: int) -> float | None:
    """Since when (time.time()) a grader waits for its device, in process `pid` or a child of it; None where none does.

    The longest wait of several.
    """
    found = []
    for mark in lock_root().glob("waiting-*"):
        with suppress(OSError, ValueError):  # just done
            if pid in (int(mark.name.removeprefix("waiting-")), int(mark.read_text())):
                found.append(mark.stat().st_mtime)
    return min(found, default=None)


@contextmanager
def scenario_lock(directory: Path, key: str) -> Iterator[None]:
    """Hold one key's lock, so that processes of one run grade equal scenarios once."""
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / f"{key}.lock").acquire(poll_interval=_POLL_S):
        yield
