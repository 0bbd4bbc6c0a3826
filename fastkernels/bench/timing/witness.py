"""The supervisor's own clock over N and 2N calls, and what it says about the times that processes report on a CPU."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastkernels.results import Verdict

FROM_ROUNDS_S = 0.02
"""From this time per call on, the clock around the rounds themselves is exact enough and no calls are added."""
TARGET_S = 0.0005
"""Time that N calls shall take: short, to fit between interruptions."""
MESSAGE_S = 1e-3
"""A request and its answer take less than this, as a rule. No more is believed: what N calls take longer than half of
2N looks like a message, and is as often a disturbance, which would make the calls themselves look short."""
MESSAGE_SHARE = 0.5
"""Nor more than this part of what 2N calls take, so that a reading is never nothing."""
MOST_CALLS = 200
REPEATS = 2
SUSPICIOUS_REPEATS = 8
"""Repeats, at least, before a witness does not bear out a process."""
SUSPICION_S = 1.0
"""Time over which repeats go on before a witness does not bear out a process: load only ever lengthens calls."""

LONGER = 1.0
"""A call in a loop may take this much longer than reported, a fraction."""
GAP_S = 50e-6
"""On top of that, per call: the loop and the interpreter around it."""


Trouble = tuple[Verdict | None, str]
"""What is wrong with reported times, or None and why the supervisor's clock bears them out no more than it does not."""


@dataclass(frozen=True)
class Reading:
    """Between what a call takes by the supervisor's clock, seconds. They are equal where nothing disturbs it."""

    least_s: float
    """Where this contradicts a report, a disturbance of N calls does not explain it."""
    most_s: float
    """Disturbances only ever lengthen this, so that no luck makes it fit too short a report."""


class Times(Protocol):
    """What the check reads of a comparison."""

    @property
    def baseline_s(self) -> float:
        """Reported seconds a baseline call."""

    @property
    def candidate_s(self) -> float:
        """Reported seconds a candidate call."""

    @property
    def baseline_claim_s(self) -> float:
        """What the clock holds the baseline's process to, seconds a call."""

    @property
    def candidate_claim_s(self) -> float:
        """The same of the candidate."""

    @property
    def baseline_seen(self) -> Reading:
        """Witnessed seconds a baseline call."""

    @property
    def candidate_seen(self) -> Reading:
        """Witnessed seconds a candidate call."""


def witness(
    replay: Callable[[int], object], claim_s: float, clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Seconds a call from the outside, from the shortest of some times of N and of 2N calls.

    Repeats go on while the clock does not bear out the claim, for SUSPICION_S and some rounds at least.
    """
    calls = max(1, min(MOST_CALLS, int(TARGET_S / claim_s)))
    replay(calls)
    longest, end = longest_s(claim_s), clock() + SUSPICION_S
    once_s = twice_s = math.inf
    repeats, seen = 0, Reading(0.0, math.inf)
    while repeats < REPEATS or (seen.most_s > longest and (repeats < SUSPICIOUS_REPEATS or clock() < end)):
        once_s = min(once_s, timed(replay, calls, clock))
        twice_s = min(twice_s, timed(replay, 2 * calls, clock))
        seen = reading(once_s, twice_s, calls)
        repeats += 1
    return seen


def reading(once_s: float, twice_s: float, calls: int) -> Reading:
    """What a call takes where `calls` calls took `once_s` and twice as many `twice_s`.

    What both have in common, the messages, cancels, wholly in `least_s`: where N calls were disturbed nothing is left
    of that. In `most_s` it does so up to what a message takes.
    """
    message_s = min(max(0.0, 2 * once_s - twice_s), MESSAGE_S, MESSAGE_SHARE * twice_s)
    most_s = min(once_s, (twice_s - message_s) / 2) / calls
    return Reading(min(max(0.0, twice_s - once_s) / calls, most_s), most_s)


def longest_s(reported_s: float) -> float:
    """Longest time a witnessed call may take without contradicting the reported time."""
    return reported_s * (1 + LONGER) + GAP_S


def too_fast(times: Times, floor_s: float) -> tuple[Verdict, str] | None:
    """TOO_FAST for a candidate's time below the least that the machine allows (see `roofline.floor_s`).

    Where the baseline itself is below it the peaks were measured too low; half the baseline's time takes its place.
    """
    floor = floor_s if times.baseline_s >= floor_s else min(floor_s, times.baseline_s / 2)
    if times.candidate_s >= floor:
        return None
    return Verdict.TOO_FAST, (f"{_us(times.candidate_s)} a call is reported; moving the data or doing the operations "
                              f"takes {_us(floor)} at least")


def check_times(times: Times, floor_s: float) -> Trouble | None:
    """Return the verdict on impossible or contradicted times of the candidate, or None for credible ones.

    TOO_FAST as in `too_fast`; TIMING_TAMPERED where the supervisor's clock saw calls take longer than the process
    reported. No verdict where that clock was disturbed: where what it saw allows either, or contradicts the trusted
    side as well.
    """
    reported, seen = times.candidate_s, times.candidate_seen
    fast = too_fast(times, floor_s)
    if fast is not None:
        return fast
    longest = longest_s(times.candidate_claim_s)
    if seen.most_s <= longest:
        return _disturbed_rounds(times)
    if seen.least_s > longest and times.baseline_seen.least_s <= longest_s(times.baseline_claim_s):
        return Verdict.TIMING_TAMPERED, (
            f"{_us(reported)} a call is reported; by the supervisor's clock a call takes {_us(seen.most_s)}"
        )
    return None, (f"{_us(reported)} a call is reported, and the supervisor's clock, disturbed by other load, saw "
                  f"{_us(seen.least_s)} to {_us(seen.most_s)}")


def _disturbed_rounds(times: Times) -> Trouble | None:
    """No verdict where even a short call of the rounds took far longer than the clock saw one take.

    A part of such times, which a lie would be, can still be longer than what an honest call takes.
    """
    for side, claim_s, seen in (("baseline", times.baseline_claim_s, times.baseline_seen),
                                ("candidate", times.candidate_claim_s, times.candidate_seen)):
        if claim_s > longest_s(seen.most_s):
            return None, (f"a call of the {side} took {_us(claim_s)} or more in the rounds, disturbed by other load, "
                          f"and {_us(seen.most_s)} by the supervisor's clock")
    return None


def timed(replay: Callable[[int], object], calls: int, clock: Callable[[], float]) -> float:
    """Seconds that `calls` calls take by this clock, from before they are asked for until they are done."""
    start = clock()
    replay(calls)
    return clock() - start


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us"
