"""How much of a core others took while a case ran, and which outcomes that leaves undecided.

An adversary that lies about its time is found by contradictions, which a busy machine hides as well as it makes honest
kernels look like liars. What such a run says is no verdict on the harness.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import psutil
from redteam.case import Case
from redteam.project import Outcome

from fastkernels.results import Verdict

RESTS_ON_TIMES = ("clock", "time", "hidden_work", "replay")
"""Classes whose adversaries are found by their times."""
OF_TIMES = (Verdict.PASSED, Verdict.TOO_FAST, Verdict.TIMING_TAMPERED, Verdict.TOO_SLOW)
"""Verdicts that a neighbour's work can make of another one."""
BUSY_CORES = 0.1
"""Share of one core above which others disturb."""
TRIES = 3
"""Runs of a case before it is given up as undecided."""

Taken = dict[tuple[int, float], float]
"""CPU seconds by process (number and start), those of its ended children included."""


@dataclass
class Neighbours:
    """CPU time of all processes but this one and what it started.

    Each process is looked at, not the machine's total less our own: of our own, processes that were killed in a PID
    namespace would be missing, and what is missing would pass for a neighbour's and excuse a real failure.
    """

    look: Callable[[], Taken] = lambda: others()
    steal: Callable[[], float] = lambda: float(getattr(psutil.cpu_times(), "steal", 0.0))
    clock: Callable[[], float] = time.monotonic
    cores: float = field(default=0.0, init=False)
    """Cores that they took on average, once the `with` block has ended; what the hypervisor took counts."""

    def __enter__(self) -> Self:
        self._before = (self.clock(), self.steal(), self.look())
        return self

    def __exit__(self, *error: object) -> None:
        started, stolen, before = self._before
        after = self.look()
        taken_s = sum(seconds - before.get(process, 0.0) for process, seconds in after.items())
        self.cores = (taken_s + self.steal() - stolen) / max(self.clock() - started, 1e-9)


def others() -> Taken:
    """Every process but this one and its descendants.

    Of process 1 only its own time: it is what reaps the orphans of our runs.
    """
    table = {}
    for process in psutil.process_iter(["pid", "ppid", "create_time", "cpu_times"]):
        if process.info["cpu_times"] is not None:
            table[process.info["pid"]] = process.info
    own, grown = {os.getpid()}, True
    while grown:
        new = {pid for pid, info in table.items() if info["ppid"] in own} - own
        own |= new
        grown = bool(new)
    taken = {}
    for pid, info in table.items():
        if pid not in own:
            times = info["cpu_times"]
            ended = 0.0 if pid == 1 else getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            taken[pid, info["create_time"]] = times.user + times.system + ended
    return taken


def is_timed(case: Case) -> bool:
    """Whether its run times anything; collectives are graded without."""
    return "--fk-no-timing" not in case.options and case.kind != "distributed"


def rests_on_quiet(outcome: Outcome) -> bool:
    """Whether a busy machine may have made this outcome wrong: an adversary of times accepted, a twin called a liar."""
    case = outcome.case
    if outcome.as_expected or outcome.not_run or outcome.problems or not outcome.next_passed or not is_timed(case):
        return False
    unexpected = [verdict for verdict in outcome.given if verdict not in case.expect]
    return bool(unexpected) and all(verdict in OF_TIMES for verdict in unexpected) and (
        case.is_twin or case.kind in RESTS_ON_TIMES)


def run_until_decided(run: Callable[[], Outcome], tell: Callable[[str], None],
                      neighbours: Callable[[], Neighbours] = Neighbours) -> Outcome:
    """Run a case; again where its outcome rests on quiet and others were at work, `TRIES` times at most."""
    for attempt in range(1, TRIES + 1):
        with neighbours() as others_at_work:
            outcome = run()
        busy = f"others took {others_at_work.cores:.1f} of a core"
        if others_at_work.cores <= BUSY_CORES or not rests_on_quiet(outcome):
            return outcome
        tell(f"{outcome.case.kind}/{outcome.case.name}: {', '.join(map(str, outcome.given))} while {busy}: "
             f"try {attempt} of {TRIES} decides nothing")
    return replace(outcome, undecided=f"machine busy: {busy}")
