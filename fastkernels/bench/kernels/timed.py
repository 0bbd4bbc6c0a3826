"""Times a scenario that passed its draws: lanes over both workers, comparison, plausibility, check after timing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.idle import IdleWatch
from fastkernels.bench.kernels.locks import timing_section, work_section
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.proof import judge_batch, prove
from fastkernels.bench.kernels.sections import DeviceBusyError, NotTimedError, SectionTimer
from fastkernels.bench.kernels.surroundings import Surroundings
from fastkernels.bench.timing import (
    BadSamplesError,
    Comparison,
    NoisyError,
    Peaks,
    TimingPlan,
    Trouble,
    check_times,
    compare,
    floor_s,
    roofline_s,
    too_fast,
)
from fastkernels.bench.timing.load import Threads, read_threads
from fastkernels.errors import WorkerError
from fastkernels.results import Noise, Timing, Verdict, contradiction

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

UNDECIDED = 2
"""Comparisons without a verdict after which no more are made: load that has not passed by then stays."""


@dataclass(frozen=True)
class Work:
    """Least bytes and operations of a call."""

    bytes: int
    flops: int


class WorkerLane:
    """A timer in a worker process, on a CPU.

    pids: the processes whose waiting for a core disturbs it. trusted: whether what it says of its known work counts.
    """

    def __init__(self, ask: Callable[[Message], Message], note: Callable[[Message], None], pids: Sequence[int] = (),
                 trusted: bool = False) -> None:
        self._ask, self._note, self._pids, self._trusted = ask, note, pids, trusted
        self._slowdown = 1.0

    def measure(self, calls: int) -> list[float]:
        """Seconds per call."""
        return self._samples("measure", calls)

    def eager(self, calls: int) -> list[float]:
        """Seconds of each call."""
        return self._samples("eager", calls)

    def replay(self, calls: int) -> None:
        """Run exactly `calls` calls."""
        self._note(self._ask({"do": "replay", "calls": calls}))

    def threads(self) -> Threads:
        """What its threads have waited for a core so far."""
        return read_threads(self._pids)

    def slowdown(self) -> float:
        """Of the trusted worker's known work after the last `measure`."""
        return self._slowdown

    def _samples(self, what: str, calls: int) -> list[float]:
        reply = self._ask({"do": what, "calls": calls})
        self._note(reply)
        self._slowdown = float(reply["slowdown"]) if self._trusted and "slowdown" in reply else 1.0
        return cast(list[float], reply.get("samples_s"))  # whatever it is: compare() checks it


def time_scenario(attempt: Attempt) -> None:
    """Time both sides and check what was timed; sets timing, or the verdict that forbids it."""
    found, device = attempt.found, attempt.workers.device
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
    _take(attempt, timing_of(comparison, least, bound_s), comparison.rounds)


def _take(attempt: Attempt, timing: Timing, rounds: int) -> None:
    """Take over the times, unless they contradict themselves, and hold them to what is demanded."""
    found, wanted = attempt.found, attempt.settings.min_speedup
    doubt = contradiction(timing)
    if doubt:
        _noisy(attempt, Noise(doubt, rounds + timing.disturbed_rounds, timing.disturbed_rounds))
        return
    found.timing = timing
    if wanted is not None and timing.speedup < wanted:
        found.verdict = Verdict.TOO_SLOW
        found.message = (f"speedup {timing.speedup:.3f} (95 % interval {timing.speedup_low:.3f} to "
                         f"{timing.speedup_high:.3f}) is under the demanded {wanted:g}")


def _by_sections(attempt: Attempt, floor: float, bound_s: float) -> Comparison | None:
    """Times of both sides by the trusted clock over checked work; None where there are none."""
    try:
        comparison = SectionTimer(attempt).run(bound_s)
    except DeviceBusyError as error:
        _noisy(attempt, Noise(str(error)))
        return None
    except NotTimedError as error:
        _not_timed(attempt, str(error))
        return None
    trouble = None if comparison is None else too_fast(comparison, floor)
    if trouble is not None:
        attempt.found.verdict, attempt.found.message = trouble
        return None
    return comparison


def _noisy(attempt: Attempt, noise: Noise) -> None:
    """Say that the machine was too busy for times."""
    attempt.found.noise = noise
    _not_timed(attempt, noise.reason)


def _not_timed(attempt: Attempt, why: str) -> None:
    """Say that there are no times; a demanded speedup is then not shown."""
    found, wanted = attempt.found, attempt.settings.min_speedup
    if wanted is None:
        found.evidence = f"not timed: {why}"
        return
    found.verdict = Verdict.TOO_SLOW
    found.message = f"a speedup of {wanted:g} is demanded and none could be measured: {why}"


def _credible_times(attempt: Attempt, fitting: int, floor: float) -> Comparison | None:
    """Compare the two sides on a CPU; None where there are no times, or the candidate's are not to be believed.

    Times that look wrong are taken up to COMPARISONS times before they count: load that came or went between the
    processes' clocks and the supervisor's makes honest ones disagree too. They set the verdict, unless other load once
    left none on the times, or disturbed so many rounds that there are none: then the scenario is noisy. A candidate
    that was at work beside the baseline in most comparisons has made that load itself.
    """
    found = attempt.found
    troubles: list[Trouble] = []
    at_work: list[Trouble] = []
    for _ in range(COMPARISONS):
        watch = IdleWatch(attempt.workers.candidate_cpu_s, attempt.trusted)
        around = Surroundings(attempt.workers)
        comparison, trouble = _compared(attempt, fitting, floor, watch, around)
        if not found.passed:
            return None
        beside = watch.finding()
        at_work += [beside] if beside is not None else []
        trouble = beside or trouble  # what is at work beside makes batches long, and disturbs rounds
        if trouble is None:
            return comparison
        troubles.append(trouble)
        if beside is None and (comparison is None or [verdict for verdict, _ in troubles].count(None) == UNDECIDED):
            break
    undecided = [trouble for trouble in troubles if trouble[0] is None and 2 * len(at_work) <= COMPARISONS]
    verdict, why = [*troubles, *at_work, *undecided][-1]
    if verdict is None:
        _noisy(attempt, found.noise or around.noise(why))
    else:
        found.verdict, found.message, found.noise = verdict, why, None
    return None


def _compared(attempt: Attempt, fitting: int, floor: float, watch: IdleWatch,
              around: Surroundings) -> tuple[Comparison | None, Trouble | None]:
    """Compare once and check the times. Without a comparison another one is of no use, and the trouble says why."""
    settings = attempt.settings
    plan = TimingPlan(num_warmup=settings.num_warmup, num_runs=settings.num_runs, max_time_s=settings.max_time_s,
                      min_interval=MIN_INTERVAL)
    try:
        comparison = compare(WorkerLane(watch.sometimes, attempt.note, around.trusted, trusted=True),
                             WorkerLane(attempt.workers.candidate, attempt.note, around.candidate), plan)
    except NoisyError as error:
        attempt.found.noise = around.noise(str(error), error.rounds, error.disturbed)
        judge_batch(attempt, fitting, watch)
        return None, (None, attempt.found.noise.reason)
    except BadSamplesError as error:
        if error.side == "baseline":
            raise WorkerError(f"the trusted worker's times: {error}") from error
        return None, (Verdict.TIMING_TAMPERED, str(error))
    trouble = watch.finding() or check_times(comparison, floor) or prove(attempt, comparison, fitting, watch)
    if trouble is not None and trouble[0] is Verdict.TIMING_TAMPERED and around.look().disturbed:
        trouble = None, f"{trouble[1]}, disturbed by other load"  # which may make clocks disagree: it accuses nobody
    return comparison, trouble


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
