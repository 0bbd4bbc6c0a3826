"""Where candidates compile to: one folder for each set of candidate files, shared by one run's processes.

A compiler's output holds nothing but the candidate's own code, so whoever runs the same files may have it. A
candidate's process can write to its own folder alone, so none can put anything into another's.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MOST_KEPT = 32
"""Folders of sets of files that one grader has met; of more the oldest goes."""

MOST_BYTES = 1024**3
"""A larger folder goes once the grader has turned to other files."""

_POLL_S = 0.02


@dataclass(frozen=True)
class Building:
    """A candidate that is being imported or built."""

    module: str
    """Such as `L1.rms_norm`."""
    since: float
    """By time.time()."""


class Builds:
    """The folders of one run, which several graders may share; they go with the last of these.

    directory: where the run's graders meet; None for a grader that shares with nobody.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._root: Path | None = None
        self._use: IO[str] | None = None
        self._mine: dict[str, Path] = {}

    def fresh(self) -> Path:
        """A new empty folder, which belongs to nobody yet."""
        path = self._open() / f"dir-{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        return path

    def of(self, loaded: str) -> Path | None:
        """The folder of these files; None where there is none. loaded: their hash."""
        with contextlib.suppress(OSError):
            found = self._open() / os.readlink(self._link(loaded))
            return found if found.is_dir() else None
        return None

    def is_mine(self, loaded: str) -> bool:
        """Whether this grader has given these files their folder."""
        return loaded in self._mine

    def give(self, loaded: str, folder: Path) -> None:
        """Make a folder that of these files, in place of any other."""
        part = self._open() / f"link-{secrets.token_hex(8)}"
        part.symlink_to(folder.name)
        part.replace(self._link(loaded))
        before = self._mine.pop(loaded, None)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        names = list(self._mine)
        for name in {*names[:1 - MOST_KEPT], *(name for name in names[-1:] if _size(self._mine[name]) > MOST_BYTES)}:
            self.forget(name, self._mine[name], remove=True)
        self._mine[loaded] = folder

    def forget(self, loaded: str, folder: Path, remove: bool = False) -> None:
        """Give a folder up: who comes next compiles anew.

        Unless `remove`, processes that have it go on with it while they live.
        """
        if self.of(loaded) == folder:
            self._link(loaded).unlink(missing_ok=True)
        if self._mine.get(loaded) == folder:
            del self._mine[loaded]
            if remove:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def first(self, loaded: str, timeout_s: float) -> Iterator[float]:
        """Hold these files' lock, so that who comes second finds what the first has compiled.

        Gives the seconds spent waiting, at most `timeout_s`: a grader that was stopped must not stop the others.
        """
        started = time.monotonic()
        with self._link(loaded).with_suffix(".lock").open("w") as held:
            while not _locked(held) and time.monotonic() - started < timeout_s:
                time.sleep(_POLL_S)
            yield time.monotonic() - started

    @contextmanager
    def building(self, module: str) -> Iterator[None]:
        """Say meanwhile that a candidate is being imported or built."""
        mark = self._open() / f"building-{secrets.token_hex(8)}"
        mark.write_text(module)
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def under_way(self) -> list[Building]:
        """What is being built now, by any grader of the run, the longest first."""
        root = self._root or (self._directory / "builds" if self._directory else None)
        found = []
        for mark in root.glob("building-*") if root else ():
            with contextlib.suppress(OSError):  # just done
                found.append(Building(mark.read_text(), mark.stat().st_mtime))
        return sorted(found, key=lambda building: building.since)

    def close(self) -> None:
        """Give the folders up; they are removed where no other grader uses them. It may be used again afterwards."""
        if self._root is not None:
            self._finalizer()
            self._root, self._use = None, None
            self._mine.clear()

    def _link(self, loaded: str) -> Path:
        return self._open() / f"of-{hashlib.sha256(loaded.encode()).hexdigest()[:32]}"

    def _open(self) -> Path:
        """The root of all folders; made at the first use."""
        if self._root is None:
            if self._directory is None:
                self._root = Path(tempfile.mkdtemp(prefix="fastkernels-builds-"))
            else:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._root = self._directory / "builds"
                self._use = (self._directory / "builds.lock").open("w")
                _sweep(self._directory.parent)
                fcntl.flock(self._use, fcntl.LOCK_SH)
                self._root.mkdir(mode=0o700, exist_ok=True)
            self._finalizer = weakref.finalize(self, _remove, self._root, self._use, os.getpid())
        return self._root


def is_empty(folder: Path) -> bool:
    """Whether nothing was compiled into a folder."""
    return not any(files for _, _, files in os.walk(folder))


def _size(folder: Path) -> int:
    found = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # gone meanwhile
                found += os.lstat(os.path.join(where, name)).st_blocks * 512
    return found


def is_locked(folder: Path) -> bool:
    """Whether torch's extensions are being built there, or were when their builder was killed: others wait for it."""
    return any("lock" in files for _, _, files in os.walk(folder))


def _sweep(runs: Path) -> None:
    """Remove what killed runs have left: nobody holds their lock."""
    for path in runs.glob("*/builds.lock"):
        with contextlib.suppress(OSError), path.open("w") as use:
            if (path.parent / "builds").exists() and _locked(use):
                shutil.rmtree(path.parent / "builds", ignore_errors=True)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(root: Path, use: IO[str] | None, owner: int) -> None:
    if os.getpid() != owner:  # a forked copy of the supervisor
        return
    if use is None or _locked(use):
        shutil.rmtree(root, ignore_errors=True)
    if use is not None:
        use.close()
