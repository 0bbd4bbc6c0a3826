"""A run's hold on its results file and log: one run at a time, and the next one learns whether the last one ended."""

import fcntl
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from fastkernels.errors import FastKernelsError


class ResultsInUseError(FastKernelsError):
    """Another run that goes on writes to these files."""


@dataclass
class Hold:
    """Kept by the process that reports, until `release` or its end, whatever ends it."""

    results: Path
    """The results file, which need not exist."""
    unfinished: bool
    """Whether the run before was ended before it was done: its log holds what no results file need hold."""
    _file: IO[str]

    def release(self, finished: bool) -> None:
        """Let other runs have the files; unless `finished`, the next one is told that this one was not."""
        if finished:
            mark_of(self.results).unlink(missing_ok=True)
        self._file.close()


def hold(results: Path) -> Hold:
    """Take hold of a results file and its log; its folder is made.

    ResultsInUseError where another run has it, OSError where nothing can be written there.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    mark = mark_of(results)
    while True:
        file = mark.open("a+")
        if not _locked(file):
            raise ResultsInUseError(f"{_owner(file)} writes to {results.name} in this directory")
        if mark.exists() and os.path.samestat(mark.stat(), os.fstat(file.fileno())):
            break
        file.close()  # its owner has just removed it
    unfinished = os.fstat(file.fileno()).st_size > 0  # what stands there stays, should the disk be full
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
    file.flush()
    return Hold(results, unfinished, file)


def hold_another(results: Path) -> Hold:
    """Take hold of the first of `kernels-2.json`, `kernels-3.json` and so on that no run has used."""
    for number in count(2):
        other = results.with_stem(f"{results.stem}-{number}")
        if not (other.exists() or other.with_suffix(".jsonl").exists()):
            with suppress(ResultsInUseError):
                return hold(other)
    raise AssertionError("unreachable")


def mark_of(results: Path) -> Path:
    """The file that is locked while a run goes on and removed once it is done: `.kernels.run` beside `kernels.json`."""
    return results.with_name(f".{results.stem}.run")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _owner(file: IO[str]) -> str:
    file.seek(0)
    try:
        found = json.loads(file.readlines()[-1])
        return f"another run (process {found['pid']} on {found['host']})"
    except (ValueError, LookupError, TypeError):  # it has not written yet
        return "another run"
    finally:
        file.close()
