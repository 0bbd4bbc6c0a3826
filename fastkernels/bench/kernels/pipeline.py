"""Takes one scenario through build, draws, timing and the check after timing, in this order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastkernels.bench.isolate.memory import tells_out_of_memory
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.ran_through import ran_through
from fastkernels.bench.kernels.locks import DeviceShare
from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.bench.kernels.workers import CandidateFailedError, Workers
from fastkernels.errors import WorkerError
from fastkernels.manifest import Scenario
from fastkernels.results import Correctness, GateResult, Noise, Timing, Verdict, WorstElement

MAX_OUTPUT_FACTOR = 16
"""Outputs that take more than this times the inputs and weights, and 256 MiB, are not copied but judged by shape."""

MAX_OUTPUT_BYTES = 256 * 1024 * 1024

_BY_VALUE = (Verdict.MISSED_WRITE, Verdict.WRONG_INTEGERS, Verdict.WRONG_NONFINITE, Verdict.WRONG_VALUES,
             Verdict.WRONG_SCALE)
"""What is wrong with numbers alone."""


@dataclass
class Found:
    """What grading has found so far."""

    verdict: Verdict = Verdict.PASSED
    message: str = ""
    evidence: str = ""
    correctness: Correctness | None = None
    timing: Timing | None = None
    noise: Noise | None = None
    """Why there is no timing, where the machine was too busy for one."""
    gates: dict[str, GateResult] = field(default_factory=dict)
    provider: str = ""
    ran_through: tuple[str, ...] = ()
    """Installed packages that a call of the candidate's ran through."""
    ran_s: float = 0.0
    """Seconds in which graded code ran."""
    waited_s: float = 0.0
    """Seconds spent waiting for another process to finish its timing."""
    imported: bool = False
    """Whether the candidate's import has succeeded."""
    sweep: str = ""
    """What a sweep over token counts has covered, or why there was none."""
    refused: list[str] = field(default_factory=list)
    """Values of init arguments, none of them a shipped shape's, that the candidate refuses."""
    harness_failed: bool = False
    """Whether the harness, not the candidate, is what failed."""
    dump: str = ""
    """The script that shows the call that went wrong, where that was asked for."""

    @property
    def passed(self) -> bool:
        """True until something is wrong."""
        return self.verdict.ok

    def waited(self, seconds: float) -> None:
        """Add time spent waiting for another process."""
        self.waited_s += seconds

    def wrong_again(self) -> None:
        """The first call was right and is wrong now that it was made again."""
        if self.verdict in _BY_VALUE:
            self.message = f"right in the first call, {self.verdict} in the same call again: {self.message}"
            self.verdict = Verdict.NONDETERMINISTIC


@dataclass
class Attempt:
    """One scenario on its way through the workers."""

    workers: Workers
    settings: GraderSettings
    scenario: Scenario
    found: Found = field(default_factory=Found)
    weight_bytes: int = 0
    """Bytes of the weights that both workers hold."""
    built: Message = field(default_factory=dict)
    """The request that built the candidate's module."""
    draws: int = 0
    """Planned draws."""
    loaded: str = ""
    """Hash of the candidate files that the module reaches."""
    swept: dict[str, str] = field(default_factory=dict)
    """Addresses of what was swept over token counts, or graded as a variant, before, by `sweep_key`."""

    def __post_init__(self) -> None:
        self.share = DeviceShare(self.workers.device, self.found.waited)

    def check(self) -> None:
        """Import, build and judge the planned draws in order, then the calls besides; stops at the first that fails."""
        from fastkernels.bench.kernels.sweep import sweep
        from fastkernels.bench.kernels.varied import grade_variants

        scenario = self.scenario
        self.candidate({"do": "import", "module": scenario.relative_module, "class_name": scenario.class_name})
        self.found.imported = True
        variant = grade_variants(self)
        plain = scenario.to_dict()
        with self.share.on_the_device():
            prepared = self.trusted({"do": "prepare", "scenario": plain, "seed": self.settings.seed})
        self.found.provider = str(prepared.get("provider", ""))
        if self.take(prepared):
            return
        self.weight_bytes, self.draws = prepared["weight_bytes"], prepared["draws"]
        self.built = {"do": "build", "scenario": plain, "weights": prepared["weights"], "arenas": prepared["arenas"]}
        self.candidate(self.built)
        for index in range(self.draws):
            last = index == self.draws - 1
            if self.draw_and_judge({"index": index}, {"last": last}, compiles=index == 0):
                return
        if self.draw_and_judge({"index": 0}, {"in_order": True, "trace": True}):
            self.found.wrong_again()
            return
        if self.draw_and_judge({"index": self.draws - 1}, {"guarded": True}):
            self.found.message += " (in a call whose allocations lay between guard bands and held NaN)"
            return
        sweep(self)
        if self.found.passed and variant is not None:
            self.found.verdict, self.found.message = variant
        if self.found.refused:
            self.found.sweep += f"; the candidate refuses {' and '.join(self.found.refused)}"

    def check_other_weights(self) -> None:
        """Load other weights into the candidate's module and judge a call: what it keeps of the old ones is wrong."""
        with self.share.on_the_device():
            reloaded = self.trusted({"do": "reload"})
            self.candidate({"do": "reload", "scenario": self.scenario.to_dict(), "weights": reloaded["weights"],
                            "columns": reloaded["columns"], "arenas": reloaded["arenas"]})
        if self.draw_and_judge({"index": reloaded["index"]}, {"last": True}):
            self.found.message += " (after other weights were loaded)"

    def draw_and_judge(self, draw: Message, extra: Mapping[str, Any], compiles: bool = False) -> bool:
        """Have inputs drawn, the candidate called on them and the outcome judged; True where it failed.

        compiles: the call may take seconds in a compiler, so that it is made while others may time. What one call does
        on the device disturbs a round of theirs at most.
        """
        if not compiles:
            with self.share.on_the_device():
                return self.call_and_judge(self.trusted({"do": "draw", **draw}), extra)
        with self.share.on_the_device():
            drawn = self.trusted({"do": "draw", **draw})
        answer = self.call(drawn, extra)
        with self.share.on_the_device():
            return self.judge(drawn, answer)

    def call_and_judge(self, drawn: Message, extra: Mapping[str, Any]) -> bool:
        """Have the candidate called on a draw and the outcome judged; True where it failed."""
        answer = self.call(drawn, extra)
        if extra.get("guarded") and "not_guarded" in answer:
            return False
        return self.judge(drawn, answer)

    def call(self, drawn: Message, extra: Mapping[str, Any]) -> Message:
        """Have the candidate called on a draw; its answer, outputs in the arena where they fit."""
        answer = self.candidate({"do": "call", "inputs": drawn["inputs"], "arenas": drawn["arenas"], **extra})
        if "trace" in extra:
            self.found.ran_through = ran_through(answer)
        return answer

    def judge(self, drawn: Message, answer: Message) -> bool:
        """Have an answer judged; True where it is wrong."""
        if answer.get("slots") is None:
            answer = self.collect(answer, drawn["bytes"])
        return self.take(self.trusted({"do": "judge", "answer": answer}))

    def take(self, reply: Message) -> bool:
        """Take over a finding of the trusted worker; True where it is not PASSED."""
        finding = reply.get("finding")
        if finding is None:
            return False
        self.found.correctness = correctness_of(finding["correctness"]) or self.found.correctness
        verdict = Verdict(finding["verdict"])
        if not verdict.ok:
            self.found.verdict, self.found.message = verdict, finding["message"]
            self.dump(judged=True)
        return not verdict.ok

    def dump(self, judged: bool) -> None:
        """Have the call that went wrong written (`--fk-dump`): as it was `judged`, or the inputs of one that failed."""
        folder = self.settings.dump
        if folder is not None and not self.found.dump:
            scenario, found = self.scenario, self.found
            title = f"{scenario.id}: {found.verdict}: {found.message.partition(chr(10))[0]}"
            reply = self.trusted({"do": "dump", "judged": judged, "title": title,
                                  "folder": str(folder / scenario.op / scenario.use)})
            found.dump = str(reply.get("script", ""))

    def trusted(self, request: Message) -> Message:
        """Ask the trusted worker."""
        return self.workers.trusted(request)

    def candidate(self, request: Message) -> Message:
        """Ask the candidate's worker and note how long graded code ran."""
        reply = self.workers.candidate(request)
        self.note(reply)
        return reply

    def note(self, reply: Message) -> None:
        """Add the time that graded code ran in a worker."""
        ran_s = reply.get("ran_s", 0.0)
        self.found.ran_s += ran_s if isinstance(ran_s, float) and 0 <= ran_s < 1e6 else 0.0

    def collect(self, answer: Message, input_bytes: int) -> Message:
        """Have the outputs copied once the arena has room for them; outputs of absurd size stay where they are."""
        needed = _int(answer.get("bytes"))
        if needed > max(MAX_OUTPUT_FACTOR * (input_bytes + self.weight_bytes), MAX_OUTPUT_BYTES):
            return answer
        reserved = self.trusted({"do": "reserve", "bytes": needed})
        return {**answer, **self.candidate({"do": "collect", "arenas": reserved["arenas"]})}


def run(attempt: Attempt) -> Found:
    """Grade one scenario; WorkerError where the harness fails, never an exception for what the candidate does."""
    from fastkernels.bench.kernels.gates import run_gates
    from fastkernels.bench.kernels.sanitize import run_sanitizers
    from fastkernels.bench.kernels.timed import time_scenario

    found = attempt.found
    try:
        with attempt.share.throughout():
            attempt.check()
        if found.passed and attempt.settings.timing:
            attempt.workers.spare.settle()
            attempt.workers.settle()
            time_scenario(attempt)
        if found.verdict.correct and attempt.weight_bytes > 0:
            with attempt.share.throughout():
                attempt.check_other_weights()
    except CandidateFailedError as error:
        found.verdict, found.message, found.evidence = error.verdict, error.message, error.evidence
        if found.imported:
            attempt.dump(judged=False)
    if found.verdict.correct:
        run_gates(attempt)
        run_sanitizers(attempt)
    else:
        found.timing = found.noise = None
    return found


def correctness_of(data: Mapping[str, Any] | None) -> Correctness | None:
    """Rebuild the numbers that the trusted worker has sent."""
    if data is None:
        return None
    worst = data.get("worst")
    element = None if worst is None else WorstElement(**{**worst, "index": tuple(worst["index"])})
    return Correctness(**{**data, "worst": element})


def _int(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise CandidateFailedError(Verdict.NO_RESULT, "the answer to a call lacks the size of its outputs", "")
    return value


def failed_harness(error: WorkerError) -> Found:
    """The finding where the harness failed twice: never green, never the candidate's."""
    head, _, rest = str(error).partition("\n")
    advice = "; it ran out of memory: fewer workers (-n) leave it more" if tells_out_of_memory(rest) else ""
    return Found(verdict=Verdict.TASK_INVALID, message=f"the harness failed: {head}{advice}", evidence=rest[-8000:],
                 harness_failed=True)
