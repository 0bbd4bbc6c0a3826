"""A machine that is taken for quiet and its clocks at their word, for tests of what comes with times.

`-p quiet_machine` has that in a run of its own.
"""

from fastkernels.bench.kernels import timed
from fastkernels.bench.kernels.surroundings import Seen, Surroundings

PATCHES = (
    (timed, "read_threads", lambda pids: {}),
    (timed, "contradiction", lambda timing: ""),
    (timed.WorkerLane, "slowdown", lambda self: 1.0),
    (Surroundings, "look", lambda self: Seen(0.0, 0.0, 0.0)),
)
"""What sees other load, and what each says in its place."""

CLOCKS = (
    (timed, "check_times", lambda times, floor_s: None),
    (timed, "prove", lambda *_: None),
    (timed.IdleWatch, "finding", lambda self: None),
)
"""What compares clocks: whether they agree depends on what else the machine does."""


def pytest_configure(config) -> None:
    """Patch them for good: the run is a process of its own."""
    del config
    for owner, name, value in (*PATCHES, *CLOCKS):
        setattr(owner, name, value)
