"""What a forked child does to be a worker like one that was executed: nothing of the starter's stays with it."""

import ctypes
import os
import sys
import tempfile
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from fastkernels.bench.isolate import namespaces, worker
from fastkernels.bench.isolate.starter.label import relabel

_SET_DUMPABLE = 4


@dataclass(frozen=True)
class Job:
    """A worker to be."""

    message: dict[str, Any]
    """Its `argv`, `env`, `umask` and `cores`."""
    fds: list[int]
    """Its directory, its log, its connection to the supervisor and the arenas."""
    starter: int
    """Process id of the starter, which is its parent."""


def become(job: Job) -> NoReturn:
    """Run the worker, and end the process as Python ends a program."""
    status = 1
    try:
        _run(job)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(job: Job) -> None:
    directory, log, connection, *arenas = job.fds
    os.setsid()
    os.fchdir(directory)
    os.umask(job.message["umask"])
    os.sched_setaffinity(0, job.message["cores"])
    null = os.open(os.devnull, os.O_RDONLY)
    for number, fd in enumerate((null, log, log)):
        os.dup2(fd, number)
    close_all_but({0, 1, 2, connection, *arenas})
    environment = job.message["env"]
    os.environ.clear()
    os.environ.update(environment)
    argv = [*job.message["argv"], "--fd", str(connection), "--parent", str(job.starter),
            "--arenas", ",".join(map(str, arenas))]
    sys.argv = [worker.__file__, *argv]
    relabel([sys.executable, "-m", worker.__name__, *argv], environment)
    renew()
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)
    namespaces.die_with(job.starter)
    worker.main(argv)


def close_all_but(kept: set[int]) -> None:
    """Close every other descriptor of this process."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # that of the listing itself
                continue


def renew() -> None:
    """Give the process random states and a directory for temporary files of its own; `random` renews itself."""
    tempfile.tempdir = None
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
