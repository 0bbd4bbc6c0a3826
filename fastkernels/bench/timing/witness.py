"""The supervisor's own clock over N and 2N calls, and what it says about the times that the processes report."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastkernels.bench.timing.timer import REPLAY_UNIT
from fastkernels.results import Verdict

FROM_ROUNDS_S = 0.02
"""From this time per call on, the clock around the rounds themselves is exact enough on a CPU and no calls are added.
On CUDA a round holds more calls than it reports (see `cupti.SETTLE_CALLS`), so that it cannot stand for a witness."""
TARGET_S = {"wall": 0.0005}
"""Time that N calls shall take, by method: short on a CPU, to fit between interruptions."""
CUDA_TARGET_S = 0.002
"""The same on CUDA, so that the jitter of a message and a launch (0.05 ms) is small against it."""
NOT_CLOCKED = (float("inf"), float("inf"))
"""Shortest times of N and of 2N calls before the first."""
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

CUDA_LONGER = 0.5
"""A warm replayed call may take this much longer than the cold time reported for it, a fraction. Honest kernels took
0.6 to 1.0 of it on an H200, gaps in the graph included."""
CUDA_GAP_S = 1e-6
"""On top of that: the jitter of the supervisor's clock over MOST_CALLS calls."""
CPU_LONGER = 1.0
"""On a CPU a call in a loop may take this much longer than reported, a fraction."""
CPU_GAP_S = 50e-6
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
    def method(self) -> str:
        """Name of the timer."""

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
    replay: Callable[[int], object],
    method: str,
    claim_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Seconds a call from the outside, from the shortest of some times of N and of 2N calls.

    Repeats go on while the clock does not bear out the claim, for SUSPICION_S and some rounds at least.
    """
    calls = max(1, min(MOST_CALLS, int(TARGET_S.get(method, CUDA_TARGET_S) / claim_s)))
    calls = in_whole_graphs(calls)
    replay(calls)  # and captures them now
    longest, end = longest_s(method, claim_s), clock() + SUSPICION_S
    shortest = NOT_CLOCKED
    repeats, seen = 0, Reading(0.0, float("inf"))
    while repeats < REPEATS or (seen.most_s > longest and (repeats < SUSPICIOUS_REPEATS or clock() < end)):
        shortest = clocked_again(replay, calls, clock, shortest)
        seen = reading(*shortest, calls)
        repeats += 1
    return seen


def clocked_again(
    replay: Callable[[int], object], calls: int, clock: Callable[[], float], shortest: tuple[float, float],
) -> tuple[float, float]:  # fmt: skip
    """(N calls, 2N calls) clocked once more, seconds: the shorter of this time and the shortest so far."""
    return min(shortest[0], timed(replay, calls, clock)), min(shortest[1], timed(replay, 2 * calls, clock))


def in_whole_graphs(calls: int) -> int:
    """The most calls up to `calls` that fill graphs; fewer than fill one stay as they are."""
    return calls // REPLAY_UNIT * REPLAY_UNIT or calls


def reading(once_s: float, twice_s: float, calls: int) -> Reading:
    """What a call takes where `calls` calls took `once_s` and twice as many `twice_s`.

    What both have in common (messages, launch, synchronisation) cancels, wholly in `least_s`: where N calls were
    disturbed nothing is left of that. In `most_s` it does so up to what a message takes.
    """
    message_s = min(max(0.0, 2 * once_s - twice_s), MESSAGE_S, MESSAGE_SHARE * twice_s)
    most_s = min(once_s, (twice_s - message_s) / 2) / calls
    return Reading(min(max(0.0, twice_s - once_s) / calls, most_s), most_s)


def longest_s(method: str, reported_s: float) -> float:
    """Longest time a witnessed call may take without contradicting the reported time."""
    if method == "wall":
        return reported_s * (1 + CPU_LONGER) + CPU_GAP_S
    return reported_s * (1 + CUDA_LONGER) + CUDA_GAP_S


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
    longest = longest_s(times.method, times.candidate_claim_s)
    if seen.most_s <= longest:
        return _disturbed_rounds(times)
    if seen.least_s > longest and times.baseline_seen.least_s <= longest_s(times.method, times.baseline_claim_s):
        return Verdict.TIMING_TAMPERED, (
            f"{_us(reported)} a call is reported; by the supervisor's clock a call takes {_us(seen.most_s)}"
        )
    return None, (f"{_us(reported)} a call is reported, and the supervisor's clock, disturbed by other load, saw "
                  f"{_us(seen.least_s)} to {_us(seen.most_s)}")


def _disturbed_rounds(times: Times) -> Trouble | None:
    """No verdict where, on a CPU, even a short call of the rounds took far longer than the clock saw one take.

    A part of such times, which a lie would be, can still be longer than what an honest call takes.
    """
    if times.method != "wall":
        return None
    for side, claim_s, seen in (("baseline", times.baseline_claim_s, times.baseline_seen),
                                ("candidate", times.candidate_claim_s, times.candidate_seen)):
        if claim_s > longest_s(times.method, seen.most_s):
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
