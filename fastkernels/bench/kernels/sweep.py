"""Sweeps a candidate over token counts: many small calls in a message or two, all of them judged.

What is wrong at few counts alone (a tail of a tile, a number of sequences) is met by no list of shapes and seldom by a
draw. Modules of the same shape are swept once for the same candidate files, whatever their listed token counts.
"""

import hashlib
import json
import time

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict

LEAD_IN = 2
"""Calls that are made first, to see what a call takes: some candidates compile or tune anew for each count."""

LEAD_INS = 3
"""Times, at least, that so few are made where they take long."""

LONGEST_S = {"cpu": 10.0, "cuda": 2.0}
"""The other calls are made where they take no longer than this together, by the shortest of those so far. On a CPU
these are CPU seconds of the candidate's processes: other load, which lengthens those too, shall not shorten a sweep."""

SPENT_S = {"cpu": 0.0, "cuda": 2.0}
"""Time that is spent on few at a time in any case, where the others would take longer: on CUDA the first calls of a
process compile, and those that follow need not."""

PATIENCE = 4
"""A message has so many calls at most that they take this part of the time limit, by the clock."""


def sweep(attempt: Attempt) -> None:
    """Sweep a scenario and note in `Found.sweep` what was covered; sets the verdict where a call is wrong."""
    key = sweep_key(attempt.scenario, attempt.loaded)
    if key in attempt.swept:
        attempt.found.sweep = f"as of {attempt.swept[key]}"
        return
    with attempt.share.on_the_device():
        drawn = attempt.trusted({"do": "draw_sweep", "seed": attempt.settings.seed})
    if "why_not" in drawn:
        attempt.found.sweep = f"none: {drawn['why_not']}"
        return
    counts, done, lead_ins, size, call_s, spent_s = drawn["counts"], 0, 1, LEAD_IN, float("inf"), 0.0
    longest_s = LONGEST_S[attempt.workers.device]
    while done < len(counts):
        part = range(done, min(len(counts), done + size))
        with attempt.share.on_the_device():
            started = time.monotonic()
            answer, took_s = _called(attempt, drawn, part)
            most = int(attempt.settings.timeout_s / PATIENCE * len(part) / (time.monotonic() - started))
            right = _right(attempt, drawn, part, answer)
        if not right:
            return
        done, call_s, spent_s = part.stop, min(call_s, took_s / len(part)), spent_s + took_s
        fits = (len(counts) - done) * call_s <= longest_s
        if not fits and lead_ins >= LEAD_INS and spent_s > SPENT_S[attempt.workers.device]:
            break
        lead_ins += not fits
        size = max(LEAD_IN, most) if fits else LEAD_IN
    attempt.found.sweep = covers(counts[:done], len(counts), drawn["modulus"], call_s)
    attempt.swept[key] = attempt.scenario.id


def covers(counts: list[int], planned: int, modulus: int, call_s: float) -> str:
    """What a sweep has covered, in words."""
    if len(counts) == planned:
        return f"{planned} token counts from {min(counts)} to {max(counts)}, every residue of {modulus}"
    return f"{len(counts)} of {planned} token counts: a call at a new one takes {call_s:.2g} s"


def sweep_key(scenario: Scenario, loaded: str) -> str:
    """Equal where one sweep does for both: the same candidate files, module and inputs, at whatever token count."""
    inputs = [[spec.name, spec.values, list(spec.shape), spec.dtype, dict(spec.args), list(spec.strides)]
              for spec in scenario.inputs]
    whole = [loaded, scenario.level, scenario.module, scenario.class_name, scenario.tp if scenario.level > 1 else 1,
             dict(scenario.init), inputs]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _called(attempt: Attempt, drawn: Message, part: range) -> tuple[Message, float]:
    """Have these calls made; the answer, and what they took."""
    def now() -> float:
        return workers.candidate_cpu_s() if workers.device == "cpu" else time.perf_counter()

    workers, chosen = attempt.workers, slice(part.start, part.stop)
    started = now()
    answer = attempt.candidate({"do": "sweep", "batch": drawn["batch"][chosen], "counts": drawn["counts"][chosen],
                                "arenas": drawn["arenas"]})
    return answer, now() - started


def _right(attempt: Attempt, drawn: Message, part: range, answer: Message) -> bool:
    """Have the answer to these calls judged; False where one is wrong."""
    if answer.get("slots") is None:
        counts = ", ".join(map(str, drawn["counts"][part.start:part.stop]))
        attempt.found.verdict = Verdict.WRONG_SHAPE
        attempt.found.message = (f"outputs larger than the baseline's at one of these token counts: {counts[:200]} "
                                 "(in a sweep)")
        return False
    return not attempt.take(attempt.trusted({"do": "judge_sweep", "first": part.start, "answer": answer}))
