"""Times a scenario on CUDA: rounds of sections in the runner and in the candidate's process, by the trusted clock."""

import math
import time
from typing import NoReturn

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.locks import timing_section, work_section
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.workers import CandidateFailedError
from fastkernels.bench.timing import Comparison
from fastkernels.bench.timing.schedule import MIN_ROUNDS
from fastkernels.bench.timing.sections import MOST_ROUNDS, Rounds, Taken, comparison_of
from fastkernels.errors import WorkerError
from fastkernels.results import Verdict

TARGET_S = 0.004
"""Time that the calls of a section shall take: starting and checking one takes 0.3 ms."""

SHORTEST_S = 1.5e-6
"""No call of a graph takes less, whatever the machine's peaks allow."""

MOST_SETS = 512
"""Calls of a section at most: capturing one takes 40 us."""

SETS_BYTES = 4 * 1024**3
"""Inputs and outputs of a section, where they are of more than a few calls."""

JUDGED_ROUNDS = 6
"""Rounds in each of which one call, drawn at random, is judged by the rules besides."""

AFTER_LATE_S = 1.0
"""How long a process that did not come to the end of a section may take to say why."""

Answer = dict[str, Message]
"""By side."""


class NotTimedError(Exception):
    """There are no times, and no verdict on them."""


class DeviceBusyError(NotTimedError):
    """Other processes work on the device."""


class _ReplayedWrongError(Exception):
    """A graph of the candidate's calls, replayed for the first time, gave something else than the calls themselves."""


class SectionTimer:
    """One scenario's."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.workers = attempt, attempt.workers
        self._serving = False

    def run(self, least_s: float) -> Comparison | None:
        """Time it. None where what was found is a verdict; NotTimedError; CandidateFailedError as ever.

        least_s: seconds that a call takes at least, by the machine's peaks.
        """
        try:
            return self._run(least_s, None)
        except _ReplayedWrongError:
            return self._run(least_s, "replays give other outputs: a graph does not hold all that a call launches")

    def _run(self, least_s: float, eager: str | None) -> Comparison | None:
        """eager: why the candidate's calls are not to be captured."""
        started, device = time.monotonic(), self.workers.device
        try:
            with work_section(device) as waited_s:
                self.attempt.found.waited_s += waited_s
                told = self._open(least_s, eager)
            with timing_section(device) as waited_s:
                self.attempt.found.waited_s += waited_s
                rounds = self._rounds(told)
                self._end_service()
        finally:
            self._leave()
        if rounds is None or not self.attempt.found.passed:
            return None
        early_s = rounds.early_s
        if early_s > 0.0:
            raise CandidateFailedError(Verdict.TIMING_TAMPERED, f"timed calls were said to be done {early_s * 1e6:.0f} "
                                       "us before their outputs were there", "")
        return comparison_of(rounds, told["baseline"], told["candidate"], time.monotonic() - started)

    def _open(self, least_s: float, eager: str | None) -> Answer:
        """Have both sides make as many calls ready as a section holds."""
        workers, attempt = self.workers, self.attempt
        workers.ask_runner({"do": "build", "scenario": attempt.scenario.to_dict(), "seed": attempt.settings.seed})
        plan = workers.trusted({"do": "plan_rooms", "most": MOST_SETS, "bytes": SETS_BYTES,
                                "wanted": math.ceil(TARGET_S / max(SHORTEST_S, least_s))})
        attempt.note(workers.runner_answer())
        workers.ask_runner(_room(plan, "baseline"))
        request = _room(plan, "candidate") | ({} if eager is None else {"eager": eager})
        workers.ask_candidate(request)
        told = {"baseline": workers.runner_answer(), "candidate": workers.candidate_answer(request)}
        for side, answer in told.items():
            attempt.note(answer)
            if "not_timed" in answer:
                raise NotTimedError(f"the {side}'s calls: {answer['not_timed']}")
        return told

    def _rounds(self, told: Answer) -> Rounds | None:
        """Rounds until the speedup is known well enough; None where a verdict was found."""
        workers, settings = self.workers, self.attempt.settings
        told["baseline"] |= workers.runner({"do": "read_own_clock"})
        told["candidate"] |= self.attempt.candidate({"do": "read_own_clock", "eager": True})
        self._serve(told)
        end = time.monotonic() + settings.max_time_s
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
            if "finding" in reply and number == 0 and not rounds.are_eager[1]:
                raise _ReplayedWrongError
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
            raise DeviceBusyError(reply["why"])
        if reply["failed"] == "ProtocolError":
            raise NotTimedError(reply["why"])
        if not by_candidate:
            raise WorkerError(f"timed sections of the baseline: {reply['why']}")
        if reply["failed"] == "AwakeError":
            raise CandidateFailedError(Verdict.TIMING_TAMPERED, f"{reply['why']} and the baseline was timed", "")
        raise CandidateFailedError(Verdict.NO_RESULT, f"{reply['why']} and said nothing of it", "")

    def _leave(self) -> None:
        """Let all three processes give up what timing took."""
        workers = self.workers
        if workers.trusted_side.process is None:  # it may have left both sides standing still, or an answer unread
            workers.runner_side.close()
            workers.candidate_side.close()
            return
        self._end_service()
        left = workers.trusted({"do": "leave_rooms"})
        if self.attempt.found.passed:
            self.attempt.take(left)
        if workers.runner_side.process is not None:
            workers.runner({"do": "leave_room"})
        if workers.candidate_side.process is not None:
            workers.candidate({"do": "leave_room"})


def _room(plan: Message, side: str) -> Message:
    return {"do": "open_room", "layout": plan["layout"], "arenas": plan["rooms"][side]}
