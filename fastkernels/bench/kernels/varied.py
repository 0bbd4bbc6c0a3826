"""Grades small modules with values of init arguments that no shipped shape has, beside a scenario's own."""

from fastkernels.bench.kernels.failed import CandidateFailedError
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.sweep import sweep_key
from fastkernels.manifest.variants import Variant, variants
from fastkernels.results import Verdict

SAYS_SO = (Verdict.INIT_ERROR, Verdict.FORWARD_ERROR)
"""How a candidate refuses a value that it was not made for: an exception, and its process goes on."""


def grade_variants(attempt: Attempt) -> tuple[Verdict, str] | None:
    """Grade what has not been graded for the same candidate files; the finding on the first that is wrong.

    It counts where the scenario's own calls are right, so that what is wrong with those is said first.
    """
    for variant in variants(attempt.scenario):
        key = sweep_key(variant.scenario, attempt.loaded)
        if key not in attempt.swept:
            if _is_wrong(attempt, variant):
                wrong = attempt.found.verdict, attempt.found.message
                attempt.found.verdict, attempt.found.message = Verdict.PASSED, ""
                return wrong
            attempt.swept[key] = attempt.scenario.id
    return None


def _is_wrong(attempt: Attempt, variant: Variant) -> bool:
    where = f" (in a small module with {variant.name}, which no shipped shape has)"
    try:
        wrong = _calls_are_wrong(attempt, variant)
    except CandidateFailedError as error:
        if error.verdict in SAYS_SO and attempt.workers.candidate_side.process is not None:
            attempt.found.refused.append(variant.name)
            return False
        raise CandidateFailedError(error.verdict, error.message + where, error.evidence) from error
    attempt.found.message += where if wrong else ""
    return wrong


def _calls_are_wrong(attempt: Attempt, variant: Variant) -> bool:
    plain = variant.scenario.to_dict()
    with attempt.share.on_the_device():
        prepared = attempt.trusted({"do": "prepare", "scenario": plain, "seed": attempt.settings.seed, "few": True})
    if attempt.take(prepared):
        return True
    attempt.candidate({"do": "build", "scenario": plain, "weights": prepared["weights"], "arenas": prepared["arenas"]})
    return any(attempt.draw_and_judge({"index": index}, {}, compiles=index == 0) for index in range(prepared["draws"]))
