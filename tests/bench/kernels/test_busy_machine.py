"""Batches that prove work, on a busy machine that is simulated: no lie is accepted by luck, nobody falsely accused."""

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from results_by_hand import passed

from fastkernels.bench.kernels import GraderSettings, timed
from fastkernels.bench.kernels.pipeline import Found
from fastkernels.bench.kernels.proof import Proof, undisturbed
from fastkernels.bench.kernels.sections import DeviceBusyError, NotTimedError
from fastkernels.bench.kernels.surroundings import Seen
from fastkernels.bench.timing import NoisyError
from fastkernels.bench.timing.statistics import short
from fastkernels.results import Noise, Verdict

LOADS = {
    "quiet": {"runs_s": 10.0, "stolen_s": 0.001, "late": 0.0, "late_s": 0.0},
    "two busy processes": {"runs_s": 0.004, "stolen_s": 0.004, "late": 0.0, "late_s": 0.0},
    "and late messages": {"runs_s": 0.004, "stolen_s": 0.004, "late": 0.3, "late_s": 0.008},
    "whole slices": {"runs_s": 0.004, "stolen_s": 0.008, "late": 0.3, "late_s": 0.008, "whole": True},
    "many busy processes": {"runs_s": 0.003, "stolen_s": 0.008, "late": 0.5, "late_s": 0.015},
}
"""How long a worker runs until it is taken off its core, for how long, and how often messages are late, how much."""
SIZES = {
    "32 short calls": (1.8e-4, 32, 4e-4, 1.2),
    "8 calls": (1e-3, 8, 1e-3, 1.5),
    "2 large calls": (2e-3, 2, 2e-3, 1.3),
    "2 that find cold memory": (2e-3, 2, 2e-3, 2.4),
}
"""Seconds a call, calls in a batch, seconds to hand one over, how much longer a call of it takes than in the rounds."""
GRADINGS = 40


class Process:
    """Work on the simulated clock, in a process that others take the core from."""

    def __init__(self, clock, generator, runs_s, stolen_s, late, late_s, whole=False):
        self.clock, self.random, self.late, self.late_s, self.whole = clock, generator, late, late_s, whole
        self.runs_s, self.stolen_s, self.left_s = runs_s, stolen_s, generator.expovariate(1 / runs_s)

    def message(self, seconds):
        if self.random.random() < self.late:
            self.clock.now += self.late_s * self.random.random()
        self.work(seconds)

    def work(self, seconds):
        started, seconds = self.clock.now, seconds * (1 + 0.1 * self.random.random())
        while seconds > self.left_s:
            seconds -= self.left_s
            self.clock.now += self.left_s + self.stolen()
            self.left_s = self.random.expovariate(1 / self.runs_s)
        self.left_s -= seconds
        self.clock.now += seconds
        return self.clock.now - started

    def stolen(self):
        """How long others have the core: any time, or whole slices of the scheduler, which look alike."""
        return self.stolen_s * self.random.choice((1, 1, 1, 2)) if self.whole else (
            self.random.expovariate(1 / self.stolen_s))


def trouble_of(size, load, reported, seed):
    """What one proof finds of a candidate that reports `reported` times what its calls take."""
    seconds, calls, idle_s, colder = SIZES[size]
    clock, generator = SimpleNamespace(now=0.0), random.Random(seed)
    trusted, candidate = (Process(clock, generator, **LOADS[load]) for _ in range(2))
    claims = [short([process.work(seconds) for _ in range(60)]) for process in (trusted, candidate)]

    def ask(request):
        trusted.message(idle_s + calls * seconds * colder * ("hand_over" not in request))
        return {}

    def batch(request):
        candidate.message(idle_s + calls * seconds * colder)
        return {"trees": [], "slots": []}

    attempt = SimpleNamespace(trusted=lambda request: ask(request) if request["do"] == "batch" else {}, candidate=batch,
                              take=lambda reply: False, found=Found())
    told_s, own_s = claims[1] * reported, claims[0]
    comparison = SimpleNamespace(candidate_s=told_s, candidate_claim_s=told_s, baseline_claim_s=own_s)
    watch = SimpleNamespace(always=lambda request: {"batch": 0})
    return Proof(attempt, comparison, calls, watch, clock=lambda: clock.now).run()


def outcomes(size, load, reported):
    """How many gradings accept, refuse or leave out times: each proves up to three times, and one without a verdict
    leaves them out."""
    found = Counter()
    for seed in range(GRADINGS):
        verdicts = []
        while len(verdicts) < timed.COMPARISONS:
            trouble = trouble_of(size, load, reported, 10 * seed + len(verdicts))
            if trouble is None:
                break
            verdicts.append(trouble[0])
        else:
            found["left out" if None in verdicts else str(verdicts[-1])] += 1
            continue
        found["accepted"] += 1
    return found


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("size", SIZES)
def test_an_honest_kernel_is_never_accused(size, load):
    found = outcomes(size, load, 1.0)
    assert found[Verdict.TIMING_TAMPERED] == 0
    assert found["accepted"] >= {"quiet": 1.0, "two busy processes": 0.8}.get(load, 0.0) * GRADINGS


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reported", [1 / 6, 1 / 20])
def test_a_part_of_the_time_is_not_accepted_by_luck(size, load, reported):
    found = outcomes(size, load, reported)
    assert found["accepted"] <= 0.03 * GRADINGS
    assert found[Verdict.TIMING_TAMPERED] >= {"quiet": 1.0}.get(load, 0.7) * GRADINGS


def test_readings_that_differ_are_disturbed():
    assert undisturbed([0.009, 0.002, 0.0021, 0.0023], 3) == 0.002
    assert undisturbed([0.009, 0.002, 0.0021, 0.0025], 3) is None
    assert undisturbed([0.009, 0.002, 0.0021, 0.0023, 0.008], 3) == 0.002
    assert undisturbed([0.009, 0.016, 0.0161, 0.0163, 0.024, 0.032, 0.04], 3) is None
    assert undisturbed([0.002, 0.002], 3) is None
    assert undisturbed([], 1) is None


@pytest.mark.parametrize(("troubles", "min_speedup", "expected"), [
    ([None], None, (Verdict.PASSED, "", "", True)),
    (["tampered", None], None, (Verdict.PASSED, "", "", True)),
    (["tampered"] * 3, None, (Verdict.TIMING_TAMPERED, "clocks differ", "", False)),
    (["disturbed"] * 2, None, (Verdict.PASSED, "", "not timed: too busy", False)),
    (["disturbed", None], None, (Verdict.PASSED, "", "", True)),
    (["tampered", "disturbed", "tampered"], None, (Verdict.PASSED, "", "not timed: too busy", False)),
    (["at work", "at work", "disturbed"], None, (Verdict.TIMING_TAMPERED, "was at work", "", False)),
    (["disturbed", "at work", "disturbed"], None, (Verdict.PASSED, "", "not timed: too busy", False)),
    (["disturbed"] * 2, 1.5, (Verdict.TOO_SLOW, "a speedup of 1.5 is demanded and none could be measured: too busy", "",
                              False)),
    (["rounds"], None, (Verdict.PASSED, "", "not timed: other load disturbed 9 of 12 rounds", False)),
    (["disturbed", "rounds"], None, (Verdict.PASSED, "", "not timed: other load disturbed 9 of 12 rounds", False)),
    (["rounds and at work"] * 3, None, (Verdict.TIMING_TAMPERED, "was at work", "", False)),
    (["tampered beside load"] * 2, None, (Verdict.PASSED, "", "not timed: clocks differ, disturbed by other load",
                                          False)),
    (["tampered beside load", "tampered", "tampered"], None,
     (Verdict.PASSED, "", "not timed: clocks differ, disturbed by other load", False)),
    (["too fast beside load"] * 3, None, (Verdict.TOO_FAST, "under the floor", "", False)),
])  # fmt: skip
def test_what_the_clocks_say_decides_only_where_they_were_not_disturbed(monkeypatch, troubles, min_speedup, expected):
    said = {"tampered": (Verdict.TIMING_TAMPERED, "clocks differ"), "disturbed": (None, "too busy"),
            "too fast": (Verdict.TOO_FAST, "under the floor")}
    steps, judged = iter(troubles), []

    class Around:
        """One comparison's surroundings: it is made once for each."""

        trusted = candidate = ()

        def __init__(self, workers):
            self.step = str(next(steps))
            Around.now = self.step

        def look(self):
            return SimpleNamespace(disturbed="beside load" in self.step)

        def noise(self, why, *rounds):
            return Noise(why, *rounds)

    class Watch:
        def __init__(self, *args):
            self.looks = 0

        def sometimes(self, request):
            """Nothing is asked: comparisons are made up."""

        def finding(self):  # what it has seen by the end, and not before the clock is asked
            self.looks += 1
            seen = "at work" in Around.now and (self.looks > 1 or "rounds" in Around.now)
            return (Verdict.TIMING_TAMPERED, "was at work") if seen else None

    def compared(*args):
        if "rounds" in Around.now:
            raise NoisyError(12, 9)
        return "times"

    monkeypatch.setattr(timed, "IdleWatch", Watch)
    monkeypatch.setattr(timed, "Surroundings", Around)
    monkeypatch.setattr(timed, "judge_batch", lambda *args: judged.append(Around.now))
    monkeypatch.setattr(timed, "compare", compared)
    monkeypatch.setattr(timed, "check_times", lambda comparison, floor: said.get(Around.now.partition(" beside")[0]))
    monkeypatch.setattr(timed, "prove", lambda *args: None)
    attempt = SimpleNamespace(found=Found(), settings=GraderSettings(device="cpu", min_speedup=min_speedup),
                              trusted=None, candidate=None, note=None,
                              workers=SimpleNamespace(device="cpu", candidate_cpu_s=lambda: 0.0, candidate=None))
    comparison = timed._credible_times(attempt, 2, 0.0)
    found = attempt.found
    assert (found.verdict, found.message, found.evidence, comparison is not None) == expected
    assert next(steps, "all were asked for") == "all were asked for"
    left_out = comparison is None and found.verdict.correct
    assert (found.noise is not None) == left_out  # noise is said where there are no times and nothing is accused
    assert judged == [step for step in troubles if "rounds" in str(step)]  # outputs are judged all the same


@pytest.mark.parametrize(("trusted", "candidate", "cores", "disturbed"), [
    (0.0, 0.0, 0.0, False),
    (0.0, 0.0, 1.9, False),   # others are at work on cores that nobody here waits for
    (0.3, 0.0, 0.0, True),    # invisible neighbours, and yet the trusted side waits
    (0.0, 0.3, 1.0, True),
    (0.0, 0.3, 0.0, False),   # its own threads wait for each other: that excuses no candidate
    (0.0, 0.3, None, False),
    (0.01, 0.01, 0.5, False),
])  # fmt: skip
def test_load_that_a_candidate_can_make_for_itself_excuses_nothing(trusted, candidate, cores, disturbed):
    assert Seen(cores, trusted, candidate).disturbed is disturbed


def test_a_time_that_contradicts_itself_is_noise(monkeypatch):
    """As once printed: 57.4 us 48.8 us 8.03x [0.27, 243]."""
    attempt = SimpleNamespace(found=Found(), settings=GraderSettings(device="cpu", min_speedup=1.5))
    timed._take(attempt, replace(passed().timing, baseline_s=57.4e-6, candidate_s=48.8e-6, speedup=8.03,
                                 speedup_low=0.27, speedup_high=243.0, disturbed_rounds=3), rounds=10)
    found = attempt.found
    assert found.timing is None
    assert found.verdict is Verdict.TOO_SLOW  # a demanded speedup was not shown
    assert found.noise == Noise("the 95 % interval, 0.27 to 243, has ends more than a factor of 2 apart", 13, 3)


def test_a_busy_device_is_noise_and_an_answer_that_is_none_is_not(monkeypatch):
    for error, noisy in ((DeviceBusyError("another process works on the device"), True), (NotTimedError("odd"), False)):
        timer = SimpleNamespace(run=lambda bound_s, error=error: (_ for _ in ()).throw(error))
        monkeypatch.setattr(timed, "SectionTimer", lambda attempt, timer=timer: timer)
        attempt = SimpleNamespace(found=Found(), settings=GraderSettings(device="cpu"))
        assert timed._by_sections(attempt, 0.0, 0.0) is None
        assert (attempt.found.noise is not None) is noisy
        assert attempt.found.evidence == f"not timed: {error}"
