"""Sweeps a candidate over token counts: many small calls in a message or two, all of them judged.

What is wrong at few counts alone (a tail of a tile, a number of sequences) is met by no list of shapes and seldom by a
draw. Modules of the same shape are swept once for the same candidate files, whatever their listed token counts.
"""

import hashlib
import json
import time
from collections.abc import Callable

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.manifest import Scenario
from fastkernels.results import Verdict

LEAD_IN = 2
"""Calls that are made first, to see what a call takes: some candidates compile or tune anew for each count."""

LEAD_INS = 3
"""Times that so few are made where they take long."""

LONGEST_S = 1.0
"""The other calls are made where they take no longer than this together, by the shortest of those so far."""


def sweep(attempt: Attempt, clock: Callable[[], float] = time.perf_counter) -> None:
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
    counts, done, call_s = drawn["counts"], 0, float("inf")
    for number in range(LEAD_INS + 1):
        left = len(counts) - done
        fits = left * call_s <= LONGEST_S
        if not left or (number == LEAD_INS and not fits):
            break
        part = range(done, done + (left if fits else min(LEAD_IN, left)))
        started = clock()
        with attempt.share.on_the_device():
            right = _right(attempt, drawn, part)
        if not right:
            return
        call_s = min(call_s, (clock() - started) / len(part))
        done = part.stop
    attempt.found.sweep = covers(counts[:done], len(counts), drawn["modulus"], call_s)
    attempt.swept[key] = attempt.scenario.id


def covers(counts: list[int], planned: int, modulus: int, call_s: float) -> str:
    """What a sweep has covered, in words."""
    if len(counts) == planned:
        return f"{planned} token counts from {min(counts)} to {max(counts)}, every residue of {modulus}"
    return f"{len(counts)} of {planned} token counts: a call at a new one takes {call_s:.2g} s"


def sweep_key(scenario: Scenario, loaded: str) -> str:
    """Equal where one sweep does for both: the same candidate files, module and inputs, at whatever token count."""
    inputs = [[spec.name, spec.values, list(spec.shape), spec.dtype, dict(spec.args), list(spec.strides)] for spec in scenario.inputs]
    whole = [loaded, scenario.level, scenario.module, scenario.class_name, scenario.tp if scenario.level > 1 else 1,
             dict(scenario.init), inputs]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _right(attempt: Attempt, drawn: Message, part: range) -> bool:
    """Have these calls made and judged; False where one is wrong."""
    chosen = slice(part.start, part.stop)
    answer = attempt.candidate({"do": "sweep", "batch": drawn["batch"][chosen], "counts": drawn["counts"][chosen],
                                "arenas": drawn["arenas"]})
    if answer.get("slots") is None:
        attempt.found.verdict = Verdict.WRONG_SHAPE
        attempt.found.message = ("outputs larger than the baseline's at one of these token counts: "
                                 f"{', '.join(map(str, drawn['counts'][chosen]))[:200]} (in a sweep)")
        return False
    return not attempt.take(attempt.trusted({"do": "judge_sweep", "first": part.start, "answer": answer}))
