"""Times a scenario on CUDA: rounds of sections in the runner and in the candidate's process, by the trusted clock."""

import math
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.workers import CandidateFailedError
from fastkernels.bench.timing import Comparison
from fastkernels.bench.timing.schedule import MIN_ROUNDS
from fastkernels.bench.timing.sections import MOST_ROUNDS, Rounds, Taken, comparison_of
from fastkernels.errors import WorkerError
from fastkernels.results import Verdict

PROBED_SETS = 8
"""Calls by which the runner finds how long one takes."""

TARGET_S = 0.0025
"""Time that the calls of a section shall take: starting and checking one takes 0.3 ms."""

MOST_SETS = 512
"""Calls of a section at most: capturing one takes 40 us."""

FEWEST_SETS = 2

SETS_BYTES = 4 * 1024**3
"""Inputs and outputs of a section at most, where FEWEST_SETS fit."""

SMALL_BYTES, BLOCK_BYTES, MOST_BLOCKS = 2**20, 2 * 2**20, 192
"""torch's allocator puts tensors of up to SMALL_BYTES into blocks of BLOCK_BYTES; the outputs of a section shall lie in
MOST_BLOCKS at most, since another process takes 0.4 ms to open one."""

BYTES_AT_MOST = 2
"""Bytes of an output's element, as a rule."""

JUDGED_ROUNDS = 6
"""Rounds in each of which one call, drawn at random, is judged by the rules besides."""

AFTER_LATE_S = 1.0
"""How long a process that did not come to the end of a section may take to say why."""

Answer = dict[str, Message]
"""By side."""


class NotTimedError(Exception):
    """There are no times, and no verdict on them."""


class SectionTimer:
    """One scenario's."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.workers = attempt, attempt.workers
        self._serving = False

    def run(self) -> Comparison | None:
        """Time it. None where what was found is a verdict; NotTimedError; CandidateFailedError as ever."""
        settings, started = self.attempt.settings, time.monotonic()
        self.workers.runner({"do": "build", "scenario": self.attempt.scenario.to_dict(), "seed": settings.seed})
        try:
            told = self._open()
            rounds = self._rounds(told, time.monotonic() + settings.max_time_s)
        finally:
            self._leave()
        if rounds is None or not self.attempt.found.passed:
            return None
        return comparison_of(rounds, told["baseline"], told["candidate"], time.monotonic() - started)

    def _open(self) -> Answer:
        """Have both sides make as many calls ready as a section holds."""
        plan = self.workers.trusted({"do": "plan_rooms", "sets": PROBED_SETS})
        probed = self._opened(self.workers.runner(_room(plan, "baseline")), "baseline")
        probed |= self.workers.runner({"do": "read_own_clock"})
        sets = section_sets(probed, plan["layout"]["set_bytes"])
        if sets != PROBED_SETS:
            self.workers.runner({"do": "leave_room"})
            plan = self.workers.trusted({"do": "plan_rooms", "sets": sets})
            self.workers.ask_runner(_room(plan, "baseline"))
        request = _room(plan, "candidate")
        self.workers.ask_candidate(request)
        if sets != PROBED_SETS:
            probed = self._opened(self.workers.runner_answer(), "baseline")
        candidate = self._opened(self.workers.candidate_answer(request), "candidate")
        if sets != PROBED_SETS:
            probed |= self.workers.runner({"do": "read_own_clock"})
        return {"baseline": probed, "candidate": {**candidate, **self.attempt.candidate({"do": "read_own_clock"})}}

    def _opened(self, answer: Message, side: str) -> Message:
        self.attempt.note(answer)
        if "not_timed" in answer:
            raise NotTimedError(f"the {side}'s calls: {answer['not_timed']}")
        return answer

    def _rounds(self, told: Answer, end: float) -> Rounds | None:
        """Rounds until the speedup is known well enough; None where a verdict was found."""
        workers, settings = self.workers, self.attempt.settings
        self._serve(told)
        base = told["baseline"]
        rounds = Rounds(base["calls"], base["own_s"], base["linked_s"], base["eager_link_s"],
                        (base["not_captured"] is not None, told["candidate"].get("not_captured") is not None))
        most = max(MIN_ROUNDS, math.ceil(settings.num_runs * MOST_ROUNDS / 100))
        while not (stopped := rounds.why_stop(most, end - time.monotonic())):
            number = len(rounds.baseline)
            reply = workers.trusted({"do": "round", "number": number, "candidate_first": number % 2 == 1,
                                     "judge": number < JUDGED_ROUNDS})
            if "failed" in reply:
                self._failed(reply)
            if self.attempt.take(reply):
                return None
            rounds.baseline.append(Taken(**reply["baseline"]))
            rounds.candidate.append(Taken(**reply["candidate"]))
        rounds.stopped = stopped
        return rounds

    def _serve(self, told: Answer) -> None:
        """Have both sides wait for sections."""
        workers = self.workers
        assert workers.runner_side.process is not None
        assert workers.candidate_side.process is not None
        pids = {"baseline": workers.runner_side.process.pid, "candidate": workers.candidate_side.process.pid}
        met = workers.trusted({"do": "meet_sides", **told, "pids": pids,
                               "timeout_s": self.attempt.settings.timeout_s})
        if "refused" in met:
            raise CandidateFailedError(Verdict.NO_RESULT, f"the answer about timed calls is none: {met['refused']}", "")
        workers.ask_runner({"do": "serve"})
        workers.ask_candidate({"do": "serve"})
        self._serving = True

    def _end_service(self, timeout_s: float | None = None) -> None:
        """Let both sides go and take their answers: CandidateFailedError where the candidate's is its end."""
        if not self._serving:
            return
        self._serving = False
        self.workers.trusted({"do": "end_sections"})
        self.attempt.note(self.workers.runner_answer())
        if self.workers.candidate_side.process is not None:
            self.attempt.note(self.workers.candidate_answer({"do": "serve"}, timeout_s))

    def _failed(self, reply: Message) -> NoReturn:
        """Say what has made a round impossible."""
        by_candidate = reply["side"] == "candidate"
        self._end_service(AFTER_LATE_S if reply["failed"] == "LateError" else None)
        if reply["failed"] == "BusyError":
            raise NotTimedError(reply["why"])
        if not by_candidate:
            raise WorkerError(f"timed sections of the baseline: {reply['why']}")
        if reply["failed"] == "AwakeError":
            raise CandidateFailedError(Verdict.TIMING_TAMPERED, f"{reply['why']} and the baseline was timed", "")
        raise CandidateFailedError(Verdict.NO_RESULT, f"{reply['why']} and said nothing of it", "")

    def _leave(self) -> None:
        """Let all three processes give up what timing took."""
        self._end_service()
        workers = self.workers
        if workers.trusted_side.process is not None:
            left = workers.trusted({"do": "leave_rooms"})
            if self.attempt.found.passed:
                self.attempt.take(left)
        if workers.runner_side.process is not None:
            workers.runner({"do": "leave_room"})
        if workers.candidate_side.process is not None:
            workers.candidate({"do": "leave_room"})


def section_sets(told: Message, set_bytes: int) -> int:
    """How many calls a section holds, by what the runner has told of PROBED_SETS."""
    outputs = [_bytes(leaf) for leaf in told["leaves"]]
    fitting = SETS_BYTES // max(1, set_bytes + sum(outputs))
    small = max((size for size in outputs if size <= SMALL_BYTES), default=0)
    blocks = MOST_BLOCKS * (BLOCK_BYTES // small) if small else MOST_SETS
    wanted = math.ceil(TARGET_S / max(1e-7, told["own_s"]))
    return int(max(FEWEST_SETS, min(MOST_SETS, fitting, blocks, wanted)))


def _bytes(leaf: Mapping[str, Any]) -> int:
    return BYTES_AT_MOST * math.prod(int(size) for size in leaf["shape"])


def _room(plan: Message, side: str) -> Message:
    return {"do": "open_room", "layout": plan["layout"], "arenas": plan["rooms"][side]}
