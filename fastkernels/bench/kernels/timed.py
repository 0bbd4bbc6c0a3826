"""Times a scenario that passed its draws: lanes over both workers, comparison, plausibility, check after timing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.idle import IdleWatch
from fastkernels.bench.kernels.locks import timing_section, work_section
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.proof import prove
from fastkernels.bench.kernels.sections import NotTimedError, SectionTimer
from fastkernels.bench.timing import (
    BadSamplesError,
    Comparison,
    Peaks,
    TimingPlan,
    Trouble,
    check_times,
    compare,
    floor_s,
    roofline_s,
    too_fast,
)
from fastkernels.errors import WorkerError
from fastkernels.results import Timing, Verdict

MAX_SETS = 4
"""Most sets of inputs that timed calls rotate over."""

MIN_SETS = 2
"""Fewest."""

SET_BYTES = 64 * 1024**2
"""Memory for timing sets in each process, where the fewest fit."""

BATCH_BYTES = 8 * 1024**2
"""Inputs of one batch: no more than caches hold, since timed calls find theirs there."""

MIN_INTERVAL = 0.01
"""Half-width of the rounds' interval at which timing stops; processes differ by 1 % in any case."""

COMPARISONS = 3
"""Times that a comparison is made before its times count as too fast or tampered with."""


@dataclass(frozen=True)
class Work:
    """Least bytes and operations of a call."""

    bytes: int
    flops: int


class WorkerLane:
    """A timer in a worker process, on a CPU."""

    def __init__(self, ask: Callable[[Message], Message], note: Callable[[Message], None]) -> None:
        self._ask = ask
        self._note = note

    def measure(self, calls: int) -> list[float]:
        """Seconds per call."""
        return self._samples("measure", calls)

    def eager(self, calls: int) -> list[float]:
        """Seconds of each call."""
        return self._samples("eager", calls)

    def replay(self, calls: int) -> None:
        """Run exactly `calls` calls."""
        self._note(self._ask({"do": "replay", "calls": calls}))

    def _samples(self, what: str, calls: int) -> list[float]:
        reply = self._ask({"do": what, "calls": calls})
        self._note(reply)
        return cast(list[float], reply.get("samples_s"))  # whatever it is: compare() checks it


def time_scenario(attempt: Attempt) -> None:
    """Time both sides and check what was timed; sets timing, or the verdict that forbids it."""
    found, settings, device = attempt.found, attempt.settings, attempt.workers.device
    in_sections = attempt.workers.has_runner
    with work_section(device) as waited_s:
        found.waited_s += waited_s
        fitting = 0 if in_sections else _load_sets(attempt)
        work = attempt.trusted({"do": "work"})
    least = Work(work["bytes"], work["flops"])
    with timing_section(device) as waited_s:
        found.waited_s += waited_s
        peaks = Peaks.from_dict(attempt.trusted({"do": "peaks"})["peaks"])
        floor, bound_s = floor_s(least, peaks), roofline_s(least, work["dtype"], peaks)
        comparison = None if in_sections else _credible_times(attempt, fitting, floor)
    if in_sections:
        comparison = _by_sections(attempt, floor, bound_s)
    if not found.passed:
        return
    if not in_sections:
        with work_section(device) as waited_s:
            found.waited_s += waited_s
            if attempt.call_and_judge(attempt.trusted({"do": "draw"}), {"set": 0, "in_order": True}):
                found.message += " (in a call after timing, with new values in the memory of the timed calls)"
                return
    if comparison is None:
        return
    found.timing = timing_of(comparison, least, bound_s)
    wanted = settings.min_speedup
    if wanted is not None and comparison.speedup < wanted:
        found.verdict = Verdict.TOO_SLOW
        found.message = (f"speedup {comparison.speedup:.3f} (95 % interval {comparison.speedup_low:.3f} to "
                         f"{comparison.speedup_high:.3f}) is under the demanded {wanted:g}")


def _by_sections(attempt: Attempt, floor: float, bound_s: float) -> Comparison | None:
    """Times of both sides by the trusted clock over checked work; None where there are none."""
    try:
        comparison = SectionTimer(attempt).run(bound_s)
    except NotTimedError as error:
        _not_timed(attempt, str(error))
        return None
    trouble = None if comparison is None else too_fast(comparison, floor)
    if trouble is not None:
        attempt.found.verdict, attempt.found.message = trouble
        return None
    return comparison


def _not_timed(attempt: Attempt, why: str) -> None:
    """Say that there are no times; a demanded speedup is then not shown."""
    found, wanted = attempt.found, attempt.settings.min_speedup
    if wanted is None:
        found.evidence = f"not timed: {why}"
        return
    found.verdict = Verdict.TOO_SLOW
    found.message = f"a speedup of {wanted:g} is demanded and none could be measured: {why}"


def _credible_times(attempt: Attempt, fitting: int, floor: float) -> Comparison | None:
    """Compare the two sides on a CPU; None where the candidate's times are not to be believed.

    Times that look wrong are taken up to COMPARISONS times before they count: load that came or went between the
    processes' clocks and the supervisor's makes honest ones disagree too. They set the verdict, unless that load once
    left none on the times: then there are no times, and the evidence says why. A candidate that was at work beside the
    baseline in most comparisons has made that load itself.
    """
    found, settings = attempt.found, attempt.settings
    plan = TimingPlan(num_warmup=settings.num_warmup, num_runs=settings.num_runs, max_time_s=settings.max_time_s,
                      min_interval=MIN_INTERVAL)
    troubles: list[Trouble] = []
    at_work: list[Trouble] = []
    for _ in range(COMPARISONS):
        watch = IdleWatch(attempt.workers.candidate_cpu_s, attempt.trusted)
        try:
            comparison = compare(WorkerLane(watch.sometimes, attempt.note),
                                 WorkerLane(attempt.workers.candidate, attempt.note), plan)
        except BadSamplesError as error:
            if error.side == "baseline":
                raise WorkerError(f"the trusted worker's times: {error}") from error
            troubles = [(Verdict.TIMING_TAMPERED, str(error))]
            break
        trouble = watch.finding() or check_times(comparison, floor) or prove(attempt, comparison, fitting, watch)
        if not found.passed:
            return None
        beside = watch.finding()
        at_work += [beside] if beside is not None else []
        trouble = beside or trouble  # what is at work beside makes batches long, too
        if trouble is None:
            return comparison
        troubles.append(trouble)
    undecided = [trouble for trouble in troubles if trouble[0] is None and 2 * len(at_work) <= COMPARISONS]
    verdict, why = [*troubles, *at_work, *undecided][-1]
    if verdict is not None:
        found.verdict, found.message = verdict, why
    else:
        _not_timed(attempt, why)
    return None


def timing_of(comparison: Comparison, work: Work, bound_s: float) -> Timing:
    """A comparison as results hold it."""
    shared = {name: getattr(comparison, name) for name in Timing.__dataclass_fields__ if hasattr(comparison, name)}
    return Timing(**shared, bytes=work.bytes, flops=work.flops, roofline_s=bound_s,
                  baseline_roofline=bound_s / comparison.baseline_s,
                  candidate_roofline=bound_s / comparison.candidate_s)


def _load_sets(attempt: Attempt) -> int:
    """Draw the sets of inputs of timed calls into both processes; how many sets fit into a batch."""
    count, index, batched = MAX_SETS, 0, MIN_SETS
    while index < count:
        drawn = attempt.trusted({"do": "draw", "keep": True})
        attempt.candidate({"do": "keep", "inputs": drawn["inputs"], "arenas": drawn["arenas"]})
        fitting, batched = (limit // max(1, drawn["bytes"]) for limit in (SET_BYTES, BATCH_BYTES))
        count, index = max(MIN_SETS, min(MAX_SETS, fitting)), index + 1
    return batched
