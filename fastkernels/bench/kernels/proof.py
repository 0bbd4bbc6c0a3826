"""Has the candidate prove the time that its process reports on a CPU: work on secret inputs, clocked until handed over.

A batch is one call on each of several sets of inputs that the candidate has never seen. The supervisor's clock runs
from before they are told to after all outputs lie in the arena; which of them are judged is drawn afterwards. Whatever
a candidate does in its own process (timers patched, calls skipped while they are timed, old answers returned, work put
off), it must do all of the calls within that time or be wrong.
"""

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.idle import IdleWatch
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.timing import Comparison, Trouble
from fastkernels.bench.timing.witness import SUSPICION_S, SUSPICIOUS_REPEATS
from fastkernels.results import Verdict

CALLS = 32
"""Most calls in a batch."""

FEWEST_CALLS = 2

TARGET_S = 0.03
"""Most time that the calls of a batch may take, where FEWEST_CALLS fit in."""

BATCHES = 2
"""Batches, at least; the first finds pages that were not yet mapped."""

JUDGE_S = 0.02
"""Time for judging a batch; at least FEWEST_JUDGED of its calls are judged, where it has as many."""

FEWEST_JUDGED = 4

LONGER = 0.25
"""Handing a batch over may take the candidate this much longer than the trusted worker, a fraction."""

GAP_S = 300e-6
"""A batch may take this much longer besides: what its messages and pages take differs between processes."""

BATCH_LONGER = 2.0
"""A call of a batch may take this many times what was reported: on a quiet machine honest ones took up to 1.5 times,
where the baseline's calls had taken no longer in a batch than in its rounds."""

MOST_COLDER = 2.5
"""Times longer that the baseline's calls take in a batch, as far as that excuses the candidate's: on a quiet machine it
was 2.9 at most, for stores to cold memory."""


ALIKE = 0.2
"""Readings of the trusted worker of which half differ by no more than this part are taken for undisturbed: load
lengthens them by very different times. A few alike say little, since a core is taken for whole slices of 4 or 8 ms."""

FEWEST_IDLE, FEWEST_OWN = 4, 2
"""How many must be alike at least: of handing over, which is timed twice a batch, and of the baseline's calls."""


@dataclass
class Proof:
    """Batches of one scenario."""

    attempt: Attempt
    comparison: Comparison
    calls: int
    watch: IdleWatch
    clock: Callable[[], float] = time.perf_counter
    """The supervisor's."""
    _own_s: list[float] = field(default_factory=list)
    """What the trusted worker took for a batch."""
    _idle_s: list[float] = field(default_factory=list)
    """What it took to hand one over."""
    _seen_s: float = math.inf

    def run(self) -> Trouble | None:
        """Clock and judge batches. None where all is well; where a judged call was wrong the attempt holds the finding.

        The trusted worker does the same on inputs that the candidate is done with, once with the baseline's calls and
        twice with nothing computed. The shortest batch of each counts, and more are run while the candidate's is too
        long for the report: other load only ever lengthens one. A batch that is not the shortest so far says nothing
        and is not judged.

        Load that lengthens the trusted worker's would excuse the candidate's, so they do so only where half are alike.
        No verdict where that is not so, and the candidate's batch was too long without the excuse.
        """
        batches, end = 0, self.clock() + SUSPICION_S
        drawn = self._draw(known=True)
        while batches < BATCHES or (self._seen_s > self._proven_s()
                                    and (batches < SUSPICIOUS_REPEATS or self.clock() < end)):
            self._time_trusted(drawn)
            drawn = self._draw()
            took_s, answer = self._candidate_s(drawn)
            if took_s < self._seen_s:
                self._seen_s = took_s
                self._judge(answer)
            if not self.attempt.found.passed:
                return None
            batches += 1
        if self._seen_s <= self._proven_s():
            return None
        idle_s = min(self._idle_s)
        reported, seen = self.comparison.candidate_s, max(0.0, self._seen_s - idle_s) / self.calls
        tampered = self._seen_s > self._allowed_s(idle_s, min(self._own_s, default=0.0), math.inf)
        return Verdict.TIMING_TAMPERED if tampered else None, (
            f"{reported * 1e6:.3g} us a call is reported; {self.calls} calls on new inputs, outputs handed over, took "
            f"{seen * 1e6:.3g} us a call by the supervisor's clock{'' if tampered else ', disturbed by other load'}")

    def _proven_s(self) -> float:
        """As long a batch bears the report out: other load does not make it longer."""
        return self._allowed_s(undisturbed(self._idle_s, FEWEST_IDLE) or 0.0,
                               undisturbed(self._own_s, FEWEST_OWN) or 0.0)

    def _allowed_s(self, idle_s: float, own_s: float, most_colder: float = MOST_COLDER) -> float:
        """Longest that a batch of an honest candidate takes, by what the trusted worker takes to hand over and in all.

        A call may take as long as the shorter of the reported ones, since the shortest batch counts, and by how much
        longer the baseline's calls take in a batch than in its rounds: inputs come from another core and nothing is
        warm. Where that is more than `most_colder` it is other load, which accuses nobody.
        """
        times = self.comparison
        colder = max(0.0, own_s - idle_s) / (self.calls * times.baseline_claim_s)
        longest = BATCH_LONGER * min(max(1.0, colder), most_colder) * times.candidate_claim_s
        return (1 + LONGER) * idle_s + self.calls * longest + GAP_S

    def _draw(self, known: bool = False) -> Message:
        """Inputs of a batch; `known` ones, drawn from those of timed calls, are only for the trusted worker."""
        return self.watch.always({"do": "draw_batch", "count": self.calls, "known": known})

    def _time_trusted(self, drawn: Message) -> None:
        """Time the trusted worker. The candidate may know these inputs: it will not be asked again."""
        request: Message = {"do": "batch", "batch": drawn["batch"]}
        self._own_s.append(self._trusted_s(request))
        request = {**request, "hand_over": True}
        self._idle_s += [self._trusted_s(request), self._trusted_s(request)]

    def _trusted_s(self, request: Message) -> float:
        started = self.clock()
        self.attempt.trusted(request)
        return self.clock() - started

    def _candidate_s(self, drawn: Message) -> tuple[float, Message]:
        started = self.clock()
        answer = self.attempt.candidate({**drawn, "do": "batch"})
        return self.clock() - started, answer

    def _judge(self, answer: Message) -> None:
        _judge_calls(self.attempt, answer, self.calls, self.clock)


def prove(attempt: Attempt, comparison: Comparison, fitting: int, watch: IdleWatch) -> Trouble | None:
    """See `Proof.run`. A batch is of as many calls as fit in memory (`fitting` sets of inputs) and in TARGET_S."""
    slower_s = max(comparison.baseline_s, comparison.candidate_s)
    calls = max(FEWEST_CALLS, min(CALLS, fitting, int(TARGET_S / slower_s)))
    return Proof(attempt, comparison, calls, watch).run()


def judge_batch(attempt: Attempt, fitting: int, watch: IdleWatch) -> None:
    """Have one batch made and judged where nothing can be timed: its outputs must be right all the same."""
    calls = max(FEWEST_CALLS, min(FEWEST_JUDGED, fitting))
    drawn = watch.always({"do": "draw_batch", "count": calls, "known": False})
    _judge_calls(attempt, attempt.candidate({**drawn, "do": "batch"}), calls)


def _judge_calls(attempt: Attempt, answer: Message, calls: int, clock: Callable[[], float] = time.perf_counter) -> None:
    """Judge calls of a batch in an order drawn now, until time is up."""
    order = sorted(range(calls), key=lambda _: secrets.randbits(32))
    end = clock() + JUDGE_S
    for judged, number in enumerate(order):
        if judged >= FEWEST_JUDGED and clock() > end:
            return
        if attempt.take(attempt.trusted({"do": "judge_batch", "index": number, "answer": _call_of(answer, number)})):
            attempt.found.message += " (in a batch of calls on new inputs)"
            return


def undisturbed(readings_s: Sequence[float], fewest: int) -> float | None:
    """The shortest reading where half of all, and `fewest`, differ by ALIKE at most; None where it may be disturbed."""
    alike = max(fewest, (len(readings_s) + 1) // 2)
    shortest = sorted(readings_s)[:alike]
    return shortest[0] if len(shortest) == alike and shortest[-1] <= (1 + ALIKE) * shortest[0] else None


def _call_of(answer: Message, number: int) -> Message:
    """One call's part of the answer to a batch, in the form of the answer to a call; nonsense where it is none."""
    trees, slots = answer.get("trees"), answer.get("slots")
    if not isinstance(trees, list) or not isinstance(slots, list) or number >= len(trees):
        return {}
    own = [slot for slot in slots if isinstance(slot, dict) and str(slot.get("name")).startswith(f"{number}/")]
    return {"tree": trees[number], "slots": own, "aliases": [], "weights_changed": []}
