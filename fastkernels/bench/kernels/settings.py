"""What a grader needs to know, and which device `auto` stands for."""

import ctypes
import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastkernels.bench.isolate import sanitizer
from fastkernels.bench.isolate.providers import BASELINES, VLLM, vllm_missing
from fastkernels.bench.isolate.sandbox import MODES
from fastkernels.bench.kernels.gate_choice import chosen_gates
from fastkernels.errors import DeviceError, one_of

DEVICES = ("auto", "cpu", "cuda")
BUILD_TIMEOUT_S = 300.0
"""nvcc takes a minute for a file that includes torch's headers, more on a busy machine."""


@dataclass(frozen=True)
class GraderSettings:
    """How scenarios are graded; times in seconds."""

    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: CUDA where torch and the machine have it."""
    baseline: str = "auto"
    """What is timed as the baseline: `auto` (the device's production path), `native` (plain PyTorch) or `vllm` (vLLM's
    own modules, where it is installed)."""
    seed: int = 0
    """Seed of weights and inputs."""
    timeout_s: float = 60.0
    """Longest that one request to the candidate's process may take (a call, a round of timed calls)."""
    build_timeout_s: float | None = None
    """The same for its import and for building its module, in which it may compile; None is BUILD_TIMEOUT_S, or
    `timeout_s` where that is under its default."""
    timing: bool = True
    """False checks correctness only."""
    num_warmup: int = 10
    """Untimed calls of each side before timing, on a CPU."""
    num_runs: int = 100
    """Most timed calls of each side on a CPU; on CUDA 24 rounds of sections for each 100."""
    max_time_s: float = 1.0
    """Most time spent on timing one scenario."""
    min_speedup: float | None = None
    """A correct candidate below this speedup is TOO_SLOW; None demands nothing."""
    self_test: bool = False
    """True grades the baseline itself, whatever candidates there are."""
    allow_passthrough: bool = False
    """True grades candidates that call the baseline or a library of finished kernels as any other."""
    gates: tuple[str, ...] = ()
    """Deployment gates by name, or `all`, `none`, `auto` alone (see `chosen_gates`); () is `auto`."""
    sanitize: tuple[str, ...] = ()
    """Tools of compute-sanitizer that a call is run under after a right verdict (`isolate.sanitizer.TOOLS`)."""
    candidates_dir: Path | None = None
    """Directory of candidates; None stands for `tasks/candidate` of the installed package."""
    manifest: Path | None = None
    """Manifest given by the user; only for the command line that reproduces a result."""
    seqlens: tuple[int, ...] = ()
    """Token counts asked for by name: these are graded also where a CPU run would leave them out."""
    memory_limit_bytes: int | None = None
    """Host memory that the candidate's processes may take; None is half of what is available when they start."""
    disk_limit_bytes: int = 8 * 1024**3
    """Files that the candidate's process may have in its scratch directory."""
    env: tuple[str, ...] = ()
    """Variables of the user's environment that workers see besides those that every worker may."""
    sandbox: str = "auto"
    """What confines the candidate's process: `auto` (all that the kernel has), `require` (an error where something is
    missing) or `off`."""
    dump: Path | None = None
    """Directory for calls that went wrong: inputs, expected, given and a script each; None writes none."""

    @property
    def longest_build_s(self) -> float:
        """Longest that an import or a build may take."""
        if self.build_timeout_s is not None:
            return self.build_timeout_s
        return BUILD_TIMEOUT_S if self.timeout_s >= GraderSettings.timeout_s else self.timeout_s

    def __post_init__(self) -> None:
        for name, allowed in (("device", DEVICES), ("baseline", BASELINES), ("sandbox", MODES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: {one_of(getattr(self, name), allowed)}")
        chosen_gates(self.gates)
        for tool in self.sanitize:
            if tool not in sanitizer.TOOLS:
                raise ValueError(f"sanitize: {one_of(tool, sanitizer.TOOLS)}")
        if self.sanitize and sanitizer.find() is None:
            raise DeviceError(f"sanitize {','.join(self.sanitize)}: {sanitizer.PROGRAM} is neither on the path nor "
                              "below CUDA_HOME; it comes with the CUDA toolkit")
        missing = vllm_missing() if self.baseline == VLLM else None
        if missing:
            raise DeviceError(f"baseline {VLLM}: {missing}")

    @property
    def fingerprint(self) -> str:
        """Equal for settings under which a finished result may be kept; the seed and the limits do not count."""
        kept = [resolve_device(self.device), self.baseline, self.timing, self.num_warmup, self.num_runs,
                self.max_time_s, self.min_speedup, self.self_test, self.allow_passthrough,
                chosen_gates(self.gates), self.sandbox, self.sanitize]
        return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `KernelBenchResult.settings`."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("candidates_dir", "manifest", "dump"):
            data[name] = None if data[name] is None else str(data[name])
        return {**data, "gates": [str(gate) for gate in chosen_gates(self.gates)], "seqlens": list(self.seqlens),
                "sanitize": list(self.sanitize), "env": list(self.env)}


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for a device setting, without importing torch; DeviceError where CUDA is not to be had."""
    missing = None if device == "cpu" else cuda_missing()
    if device == "cuda" and missing:
        raise DeviceError(f"device cuda: {missing}; allowed here: cpu, auto")
    return "cpu" if device == "cpu" or missing else "cuda"


@cache
def cuda_missing() -> str | None:
    """Say why CUDA cannot be used, or None where it can; looked up once per process."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "torch is not installed"
    text = (Path(spec.origin).parent / "version.py").read_text()
    if not re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE):
        return "this torch is built without CUDA"
    return None if cuda_device_count() else "no CUDA device is found"


def too_few_gpus(ranks: int, device: str) -> str:
    """Why ranks that need a GPU each cannot run at once on this machine, or ''."""
    gpus = cuda_device_count() if device == "cuda" else ranks
    return "" if ranks <= gpus else f"{ranks} ranks at once: {gpus} GPU{'s' * (gpus != 1)} here"


def cuda_device_count() -> int:
    """Devices that the CUDA driver shows to this process (CUDA_VISIBLE_DEVICES counts); 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
