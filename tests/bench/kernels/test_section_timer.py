"""How timed sections are driven, with processes that answer by script: nobody is left standing still."""

import math

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.sections import NotTimedError, SectionTimer
from fastkernels.bench.kernels.workers import CandidateFailedError
from fastkernels.errors import WorkerError
from fastkernels.results import Verdict

OWN = {"own_s": 10e-6, "linked_s": 11e-6, "eager_s": 30e-6, "eager_link_s": 5e-6}
TOLD = {"calls": 100, "not_captured": None, "addresses": [1], "leaves": [{}]}
TAKEN = {"woke_s": 5e-5, "ran_s": 1.3e-3, "seen_s": 4e-4, "check_s": 2e-4}
ROUND = {"baseline": TAKEN, "candidate": TAKEN}
WRONG = {**ROUND, "finding": {"verdict": "wrong_values", "message": "off", "correctness": None}}


class Process:
    pid = 7

    def __init__(self, side):
        self.side = side


class Side:
    def __init__(self):
        self.process = Process(self)
        self.closed = 0

    def close(self):
        self.process, self.closed = None, self.closed + 1


class Scripted:
    """Three processes. Each question must be answered before the next one to the same process."""

    device = "cuda"

    def __init__(self, **answers):
        self.answers = {"open_room": TOLD, "read_own_clock": OWN, **answers}
        self.trusted_side, self.runner_side, self.candidate_side = Side(), Side(), Side()
        self.asked, self.open, self.held = [], {}, False

    def trusted(self, request):
        self.asked.append(("trusted", request["do"]))
        assert self.trusted_side.process is not None, "a process that is gone was asked"
        if request["do"] == "round":
            self.held = True
        if request["do"] == "end_sections":
            self.held = False
        plan = {"layout": {}, "rooms": {"baseline": {}, "candidate": {}}}
        return self._answer("trusted", request, plan if request["do"] == "plan_rooms" else {})

    def runner(self, request):
        self.ask_runner(request)
        return self.runner_answer()

    def ask_runner(self, request):
        self._ask("runner", request)

    def runner_answer(self):
        return self._answer("runner", self.open.pop("runner"), {})

    def candidate(self, request):
        self.ask_candidate(request)
        return self.candidate_answer(request)

    def ask_candidate(self, request):
        self._ask("candidate", request)

    def candidate_answer(self, request, timeout_s=None):
        assert self.open["candidate"]["do"] == request["do"]
        return self._answer("candidate", self.open.pop("candidate"), {})

    def _ask(self, who, request):
        assert who not in self.open, f"the answer to {self.open.get(who)} was not read before {request['do']}"
        if request["do"] != "serve":
            assert not self.held, f"{who} is asked for {request['do']} while it stands still"
        self.asked.append((who, request["do"]))
        self.open[who] = request

    def _answer(self, who, request, otherwise):
        found = self.answers.get((who, request["do"]), self.answers.get(request["do"], otherwise))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            if who == "trusted":
                self.trusted_side.close()
            raise found
        return dict(found)


def run(workers, **settings):
    attempt = Attempt(workers, GraderSettings(device="cpu", **settings), rms_norm())
    try:
        return SectionTimer(attempt).run(1e-6), attempt
    finally:
        assert not workers.held or workers.runner_side.closed, "both sides are left standing still"
        assert not workers.open or workers.runner_side.closed, f"an answer was never read: {workers.open}"


def test_rounds_give_times_and_everything_is_given_back():
    workers = Scripted(round=ROUND)
    found, attempt = run(workers)
    assert found.speedup == pytest.approx(1.0)
    assert found.baseline_s == found.candidate_s == pytest.approx(10e-6 - 0.15e-6)
    assert workers.asked[-3:] == [("trusted", "leave_rooms"), ("runner", "leave_room"), ("candidate", "leave_room")]
    assert attempt.found.passed
    assert math.isfinite(found.speedup_high)


def test_a_side_that_cannot_be_timed_says_why_and_both_answers_are_read():
    for side in ("runner", "candidate"):
        with pytest.raises(NotTimedError, match="outputs lie elsewhere"):
            run(_with((side, "open_room"), {"not_timed": "outputs lie elsewhere"}))


def _with(key, answer):
    workers = Scripted(round=ROUND)
    workers.answers[key] = answer
    return workers


def test_a_replay_that_is_wrong_at_once_has_its_calls_made_one_by_one():
    workers = Scripted(round=[WRONG, ROUND])
    workers.answers[("candidate", "open_room")] = [TOLD, {**TOLD, "not_captured": "replays"}]
    found, attempt = run(workers)
    assert attempt.found.passed
    assert found.candidate_not_captured == "replays"
    assert workers.asked.count(("candidate", "open_room")) == 2


def test_what_is_wrong_later_or_one_by_one_is_the_verdict():
    for rounds, told in (([ROUND, WRONG], TOLD), ([WRONG], {**TOLD, "not_captured": "replays"})):
        workers = Scripted(round=list(rounds))
        workers.answers[("candidate", "open_room")] = told
        found, attempt = run(workers)
        assert found is None
        assert attempt.found.verdict is Verdict.WRONG_VALUES


@pytest.mark.parametrize(("failed", "side", "error", "says"), [
    ("LateError", "candidate", CandidateFailedError, "said nothing of it"),
    ("AwakeError", "candidate", CandidateFailedError, "the baseline was timed"),
    ("BusyError", "candidate", NotTimedError, "somebody works"),
    ("ProtocolError", "candidate", NotTimedError, "somebody works"),
    ("LateError", "baseline", WorkerError, "sections of the baseline"),
])
def test_a_round_that_fails_is_told_of(failed, side, error, says):
    workers = Scripted(round={"failed": failed, "side": side, "why": "somebody works"})
    with pytest.raises(error, match=says):
        run(workers)


def test_a_candidate_that_ends_in_a_section_has_its_own_verdict():
    workers = Scripted(round={"failed": "LateError", "side": "candidate", "why": "late"})
    workers.answers[("candidate", "serve")] = CandidateFailedError(Verdict.CRASHED, "SIGSEGV", "")
    with pytest.raises(CandidateFailedError, match="SIGSEGV"):
        run(workers)


def test_a_trusted_worker_that_is_gone_leaves_no_side_behind():
    workers = Scripted(round=WorkerError("gone"))
    with pytest.raises(WorkerError, match="gone"):
        run(workers)
    assert (workers.runner_side.closed, workers.candidate_side.closed) == (1, 1)


def test_outputs_that_come_after_they_were_said_to_be_there_are_tampering():
    workers = Scripted(round={"baseline": TAKEN, "candidate": {**TAKEN, "seen_s": 4e-3}})
    with pytest.raises(CandidateFailedError, match="before their outputs were there") as caught:
        run(workers)
    assert caught.value.verdict is Verdict.TIMING_TAMPERED


def test_memory_that_timed_calls_have_changed_is_the_verdict():
    workers = Scripted(round=ROUND)
    workers.answers[("trusted", "leave_rooms")] = {
        "finding": {"verdict": "mutated_weight", "message": "timed calls changed weight", "correctness": None}}
    found, attempt = run(workers)
    assert found is None
    assert attempt.found.verdict is Verdict.MUTATED_WEIGHT


def test_an_answer_about_outputs_that_is_none_is_no_result():
    with pytest.raises(CandidateFailedError, match="is none: no handle") as caught:
        run(_with(("trusted", "meet_sides"), {"refused": "no handle"}))
    assert caught.value.verdict is Verdict.NO_RESULT
