"""How other load disturbs timed processes, as the kernel counts it: who waited for a core, and who had it (Linux)."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

WAKE_S = 100e-6
"""A thread that sleeps waits so long, at most, until it runs again while nobody keeps its core: no disturbance."""

SLICE_S = 2e-3
"""What one involuntary switch counts for where the kernel does not say how long it lasted."""

MOST_HIT, MOST_WAITED = 0.2, 0.05
"""A round is disturbed where its threads waited in more than this part of its calls, and for more than this part of its
time: a round's time is taken from samples of which the longest third is left out (docs/timing.md)."""

_NS = 1e-9
_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ, _STEAL = 0, 1, 2, 5, 6, 7
"""Fields of a line of /proc/stat, after its name."""


@dataclass(frozen=True)
class Waits:
    """What threads have waited for a core while they could have run."""

    times: int = 0
    """How often, each thread's first time left out: that is how it was woken."""
    seconds: float = 0.0
    """How long, all threads together, without what waking takes in any case."""

    def disturb(self, calls: int, took_s: float) -> bool:
        """Whether they change what `calls` calls are found to take, which took `took_s` in all.

        Few waits among many calls are left out with the longest samples, however long; many short ones are little.
        """
        return self.times > MOST_HIT * calls and self.seconds > MOST_WAITED * took_s


Threads = Mapping[int, tuple[float, int]]
"""By thread: seconds that it has waited for a core so far, and how often it was given one."""


def read_threads(pids: Iterable[int], proc: Path = PROC) -> Threads:
    """What the threads of these processes have waited so far; ended ones are left out, none where nothing tells."""
    found: dict[int, tuple[float, int]] = {}
    for pid in pids:
        folder = f"{proc}/{pid}/task"
        try:
            names = os.listdir(folder)
        except OSError:  # it has ended, or this is no Linux
            continue
        for name in names:
            waited = _of_thread(f"{folder}/{name}")
            if waited is not None:
                found[int(name)] = waited
    return found


def waits_between(before: Threads, after: Threads) -> Waits:
    """What was waited from one reading to the next."""
    times, seconds = 0, 0.0
    for thread, (waited_s, ran) in after.items():
        waited_before_s, ran_before = before.get(thread, (0.0, 0))
        given = ran - ran_before
        if given > 0:
            times += given - 1
            seconds += max(0.0, waited_s - waited_before_s - given * WAKE_S)
    return Waits(times, seconds)


def _of_thread(folder: str) -> tuple[float, int] | None:
    """Of one thread; from its involuntary switches where the kernel keeps no times."""
    waited = _read(f"{folder}/schedstat").split()
    if len(waited) == 3 and waited[0] != b"0":
        return int(waited[1]) * _NS, int(waited[2])
    for line in _read(f"{folder}/status").splitlines():
        if line.startswith(b"nonvoluntary_ctxt_switches:"):
            switches = int(line.split()[1])
            return switches * (SLICE_S + WAKE_S), switches
    return None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


@dataclass(frozen=True)
class Cores:
    """CPU seconds on the cores that this process may use, so far."""

    busy_s: float
    """All processes of the machine."""
    stolen_s: float
    """Taken by the hypervisor for its other guests."""


def read_cores(proc: Path = PROC) -> Cores | None:
    """What the kernel counts for these cores; None where nothing tells."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    own, tick_s = {f"cpu{number}".encode() for number in os.sched_getaffinity(0)}, 1 / os.sysconf("SC_CLK_TCK")
    rows = [line.split() for line in _read(f"{proc}/stat").splitlines() if line.startswith(b"cpu")]
    counted = [[int(value) for value in row[1:]] for row in rows if row[0] in own and len(row) > _STEAL + 1]
    if not counted:
        return None
    busy = sum(row[field] for row in counted for field in (_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ))
    return Cores(busy * tick_s, sum(row[_STEAL] for row in counted) * tick_s)


class OthersMeter:
    """How many cores other processes take, from the machine's counters less what the timed ones took themselves."""

    def __init__(self, own_cpu_s: Callable[[], float], read: Callable[[], Cores | None] = read_cores,
                 clock: Callable[[], float] = time.perf_counter) -> None:
        """own_cpu_s: CPU seconds so far of the processes that are no others."""
        self._own_cpu_s, self._read, self._clock = own_cpu_s, read, clock
        self._before = self._now()

    def _now(self) -> tuple[float, Cores | None, float]:
        return self._clock(), self._read(), self._own_cpu_s()

    def cores(self) -> float | None:
        """Cores that others took on average since this meter was made, stolen time included; None if nothing tells.

        The kernel counts in ticks of 10 ms a core, so that a short stretch says little.
        """
        (started, before, own_before_s), (now, after, own_s) = self._before, self._now()
        if before is None or after is None or now <= started:
            return None
        others_s = max(0.0, after.busy_s - before.busy_s - (own_s - own_before_s))
        return (others_s + after.stolen_s - before.stolen_s) / (now - started)
