"""Which outcomes a busy machine leaves undecided, by what the grader itself saw of other load.

An adversary that lies about its time is found by contradictions, which a busy machine hides as well as it makes honest
kernels look like liars. There the grader gives no time, and the result says so (`noise`): no speedup was gained, and
nothing was decided. Neighbours in other containers, whom no list of processes shows, are seen by it too.
"""

from collections.abc import Callable
from dataclasses import replace

from redteam.case import RESTS_ON_TIMES, Case
from redteam.project import Outcome

TRIES = 3
"""Runs of a case before it is given up as undecided."""


def is_timed(case: Case) -> bool:
    """Whether its run times anything; collectives are graded without."""
    return "--fk-no-timing" not in case.options and case.kind != "distributed"


def rests_on_quiet(outcome: Outcome) -> bool:
    """Whether all that is wrong with an outcome is that an adversary of times was not timed."""
    case = outcome.case
    if outcome.as_expected or outcome.not_run or outcome.problems or not outcome.next_passed or not is_timed(case):
        return False
    unexpected = [noise for verdict, noise in outcome.findings if verdict not in case.expect]
    return case.kind in RESTS_ON_TIMES and bool(unexpected) and all(unexpected)


def run_until_decided(run: Callable[[], Outcome], tell: Callable[[str], None]) -> Outcome:
    """Run a case; again where its outcome rests on quiet that was not to be had, `TRIES` times at most."""
    for attempt in range(1, TRIES + 1):
        outcome = run()
        if not rests_on_quiet(outcome):
            return outcome
        why = next(filter(None, outcome.noise))
        tell(f"{outcome.case.kind}/{outcome.case.name}: noisy ({why}): try {attempt} of {TRIES} decides nothing")
    return replace(outcome, undecided=f"machine busy: {why}")
