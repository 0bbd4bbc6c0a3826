"""The kernel tier's verdicts and results."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fastkernels.results.gates import GateResult
from fastkernels.results.noise import Noise

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes; new fields with a default keep it."""


class Verdict(StrEnum):
    """What grading one scenario found. Closed: every end of a run is one of these."""

    PASSED = "passed"
    """Every rule held."""
    SYNTAX_ERROR = "syntax_error"
    """The candidate file does not parse."""
    MISSING_CLASS = "missing_class"
    """The candidate file lacks the operator's class."""
    WRONG_SIGNATURE = "wrong_signature"
    """`__init__` or `forward` cannot be called as the baseline's can; `__init__` may lack what has a default there."""
    IMPORT_ERROR = "import_error"
    """Importing the candidate raised."""
    INIT_ERROR = "init_error"
    """`__init__` raised."""
    WRONG_WEIGHTS = "wrong_weights"
    """The module's state dict differs from the baseline's in names, shapes or dtypes."""
    FORWARD_ERROR = "forward_error"
    """`forward` raised."""
    OUT_OF_MEMORY = "out_of_memory"
    """The candidate ran out of device or host memory."""
    LIMIT_EXCEEDED = "limit_exceeded"
    """The candidate took more processes or disk than a run allows."""
    CRASHED = "crashed"
    """The candidate's process was ended by a signal."""
    HUNG = "hung"
    """The candidate did not answer within the time limit."""
    EXITED = "exited"
    """The candidate's process ended by itself, with whatever exit status."""
    NO_RESULT = "no_result"
    """The candidate's process answered something that is no result."""
    WRONG_STRUCTURE = "wrong_structure"
    """Another tree of outputs than the baseline's, or something other than plain tensors."""
    WRONG_SHAPE = "wrong_shape"
    """An output has another shape."""
    WRONG_DTYPE = "wrong_dtype"
    """An output has another dtype."""
    WRONG_DEVICE = "wrong_device"
    """An output lies on another device."""
    ALIASED_OUTPUT = "aliased_output"
    """An output shares memory with an input, a weight or the previous call's output where the baseline's does not."""
    MUTATED_INPUT = "mutated_input"
    """An input that the baseline leaves alone was changed."""
    MUTATED_WEIGHT = "mutated_weight"
    """A parameter or buffer was changed by `forward`."""
    MISSED_WRITE = "missed_write"
    """An input that the baseline writes to was not written alike."""
    OUT_OF_BOUNDS_WRITE = "out_of_bounds_write"
    """Memory beside an input was written."""
    WRONG_INTEGERS = "wrong_integers"
    """An integer or boolean output differs."""
    WRONG_NONFINITE = "wrong_nonfinite"
    """NaN or infinity where the oracle has none, or the other way round."""
    WRONG_VALUES = "wrong_values"
    """An element is further from the oracle than atol + rtol |reference|."""
    WRONG_SCALE = "wrong_scale"
    """Relative L2 error beyond what the baseline's own rounding explains."""
    NONDETERMINISTIC = "nondeterministic"
    """The same call gave results further apart than the tolerance."""
    PASSTHROUGH = "passthrough"
    """The candidate calls the baseline, the oracle or a reference library instead of computing."""
    TOO_FAST = "too_fast"
    """A time under the physical floor of bytes over bandwidth or operations over peak rate."""
    TIMING_TAMPERED = "timing_tampered"
    """The times reported by the candidate's process disagree with the supervisor's clock."""
    TOO_SLOW = "too_slow"
    """Correct, but under the speedup that the run demands, or not shown to have it: `noise` then says why."""
    TASK_INVALID = "task_invalid"
    """The task cannot be graded: the baseline fails its own oracle, or the output cannot tell right from wrong."""

    @property
    def ok(self) -> bool:
        """True for PASSED alone."""
        return self is Verdict.PASSED

    @property
    def correct(self) -> bool:
        """True where the outputs were right; only then may a timing exist."""
        return self in (Verdict.PASSED, Verdict.TOO_SLOW)


@dataclass(frozen=True)
class WorstElement:
    """The element furthest outside the tolerance."""

    tensor: str
    """Which output or mutated input, such as `output`, `output[1]` or `key_cache`."""
    index: tuple[int, ...]
    """Its index in that tensor."""
    expected: float
    """The oracle's value."""
    got: float
    """The candidate's value."""


@dataclass(frozen=True)
class Correctness:
    """The numbers of the correctness rules, worst over all draws."""

    max_abs_error: float
    """Largest |candidate - oracle| over the float outputs of the draws at normal scale."""
    max_error_ratio: float
    """Largest |candidate - oracle| / (atol + rtol |oracle|) over all draws; right at 1 or less."""
    rel_l2_error: float
    """Largest relative L2 error against the oracle."""
    baseline_rel_l2_error: float
    """The baseline's own relative L2 error on that draw."""
    atol: float
    """Absolute tolerance used."""
    rtol: float
    """Relative tolerance used."""
    draws: int
    """Calls that were checked."""
    worst: WorstElement | None = None
    """The worst element, kept for passes and failures."""
    draw: str = ""
    """The draw that gave the worst element, such as `large@t513#2`."""


@dataclass(frozen=True)
class Timing:
    """Times of one scenario; exists for a correct candidate only. Seconds of device time (CPU: wall clock)."""

    method: str
    """How time was read: `sections` on CUDA, `wall` on a CPU; `cupti` and `cuda_graph` in older results."""
    baseline_s: float
    """Median time of one baseline call, seconds."""
    candidate_s: float
    """Median time of one candidate call, seconds."""
    speedup: float
    """baseline_s over candidate_s as the interleaved rounds give it; over 1 is faster."""
    speedup_low: float
    """Lower end of the 95 % confidence interval."""
    speedup_high: float
    """Upper end of the 95 % confidence interval."""
    runs: int
    """Timed calls of each side."""
    stopped: str
    """Why timing ended: `num_runs`, `interval` (tight enough), `max_time` or `disturbed` (other load took the rest)."""
    baseline_eager_s: float
    """Median latency of one eager baseline call, launch included, seconds; on a CPU that is any call."""
    candidate_eager_s: float
    """The same of a candidate call, as its process reads it."""
    baseline_witness_s: float
    """Seconds a baseline call by the supervisor's own clock: of N against 2N calls on a CPU; `baseline_s` on CUDA."""
    candidate_witness_s: float
    """The same of a candidate call."""
    bytes: int
    """Bytes that the operation must move at least."""
    flops: int
    """Floating-point operations that it must do at least."""
    roofline_s: float
    """The larger of bytes over bandwidth and flops over peak rate, seconds."""
    baseline_roofline: float
    """roofline_s over baseline_s; 1 is the roofline."""
    candidate_roofline: float
    """roofline_s over candidate_s."""
    baseline_samples_s: tuple[float, ...] = ()
    """Every timed baseline call, seconds; with `sections` one for each round."""
    candidate_samples_s: tuple[float, ...] = ()
    """The same of the candidate."""
    baseline_clock: str = "process"
    """Whose clock timed the baseline: `process` on a CPU, `supervisor` on CUDA."""
    candidate_clock: str = "process"
    """The same of the candidate."""
    candidate_not_captured: str | None = None
    """Why the candidate's calls cannot be captured in a CUDA graph; None where they can, and on a CPU."""
    disturbed_rounds: int = 0
    """Rounds that other load disturbed on a CPU: they were made again and count for nothing."""


@dataclass(frozen=True)
class ScenarioResult:
    """What grading one scenario gave."""

    id: str
    """Address: `rms_norm[llama31-8b-tp1-s512]`."""
    op: str
    """Operator."""
    level: int
    """1 to 4."""
    model: str
    """Short model name."""
    model_id: str
    """Hugging Face id."""
    tp: int
    """Tensor parallel degree."""
    tokens: int
    """Tokens in the call."""
    phase: str
    """`decode` or `prefill`."""
    variant: str
    """Use of the operator in the model; may be empty."""
    category: str
    """Manifest category."""
    shape_key: str
    """Equal for scenarios that are the same computation."""
    verdict: Verdict
    """The finding."""
    message: str
    """One line: what is wrong and where; a second one says what to do, where that is known. Empty when passed."""
    device: str
    """`cpu` or `cuda`."""
    baseline_provider: str
    """What computed the baseline: `native`, `triton`, `torch`, `cudnn` or `vllm`."""
    self_test: bool = False
    """True where the baseline itself was graded, for want of a candidate or by request."""
    shared_with: str | None = None
    """Address of the equal scenario that was graded in this one's place."""
    candidate_path: str | None = None
    """File of the candidate; for a level above it, the operators replaced below."""
    candidate_sha256: str | None = None
    """Hash over that file as graded, the helpers that it imports and the files beside it that it can read."""
    replaced: tuple[str, ...] = ()
    """Candidates that the graded module reaches, such as `L1.rms_norm`."""
    ran_through: tuple[str, ...] = ()
    """Installed packages that one call of the candidate's ran through, such as `liger_kernel 0.6.2`, but for torch and
    what it needs. The candidate's process says so: one that wants to can hide it."""
    correctness: Correctness | None = None
    """Numbers of the correctness rules, where it got that far."""
    sweep: str = ""
    """What a sweep over token counts has covered, or why there was none; empty where it did not get that far."""
    timing: Timing | None = None
    """Times; only with a correct verdict."""
    noise: Noise | None = None
    """Why there are no times with a correct verdict, where the machine was too busy for them."""
    gates: dict[str, GateResult] = field(default_factory=dict)
    """Deployment gates that were tried, by name; none where the outputs were not right. They change no verdict."""
    evidence: str = ""
    """Traceback, worker output or signature difference."""
    output: str = ""
    """The last of what the candidate's process printed on standard output and standard error meanwhile."""
    seed: int = 0
    """Seed of the run's draws."""
    wall_s: float = 0.0
    """Seconds that grading took, without waiting for other graders; about 0 for a finding that was taken over."""
    overhead_s: float = 0.0
    """Part of wall_s in which no graded code ran."""
    dump: str = ""
    """Script that shows the call that went wrong; empty where none was asked for, or nothing went wrong in a call."""
    reproduce: str = ""
    """A command line that grades this scenario again."""

    def __post_init__(self) -> None:
        if self.timing is not None and not self.verdict.correct:
            raise ValueError(f"{self.id}: a timing with the verdict {self.verdict}")
        if self.noise is not None and (self.timing is not None or not self.verdict.correct):
            raise ValueError(f"{self.id}: noise with the verdict {self.verdict}{' and a timing' * bool(self.timing)}")

    @property
    def headline(self) -> str:
        """What is wrong, on one line."""
        return self.message.partition("\n")[0]


@dataclass(frozen=True)
class LeftOut:
    """A scenario that was selected and not graded, with the reason."""

    id: str
    """Address."""
    reason: str
    """Why, such as `2048 tokens on a CPU (over 512; ask with --fk-seqlen=2048)`."""


@dataclass(frozen=True)
class Subsumed:
    """A candidate that no graded module reaches."""

    candidate: str
    """Such as `L1.rms_norm`."""
    by: str
    """The candidate above it that no longer uses it, such as `L2.attention`; empty where nothing uses it."""


@dataclass(frozen=True)
class KernelSource:
    """One candidate file, as it was when scenarios were graded with it."""

    op: str
    """Operator that it replaces; the file's stem for a helper, such as `_common`."""
    level: int
    """1 to 4; 0 for a helper beside the folders of the levels."""
    path: str
    """Where it lay."""
    sha256: str
    """Hash of its bytes."""
    code: str
    """Its text."""


@dataclass(frozen=True)
class KernelBenchResult:
    """One run of the kernel tier: the content of `--fk-output-json`."""

    results: tuple[ScenarioResult, ...]
    """Every graded scenario."""
    left_out: tuple[LeftOut, ...] = ()
    """Every selected scenario that was not graded."""
    subsumed: tuple[Subsumed, ...] = ()
    """Candidates without effect."""
    kernels: tuple[KernelSource, ...] = ()
    """Every candidate file that took part, helpers too."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Machine, device, driver, clocks, versions, commit."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Options of the run."""
    started: str = ""
    """UTC time, ISO 8601."""
    wall_s: float = 0.0
    """Seconds that the run took."""
    schema_version: int = SCHEMA_VERSION
    """Version of this form."""
