"""Every option of a run of the kernel tier: the one table behind `pytest --fk-...` and `fastkernels kernels`."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastkernels.errors import did_you_mean, one_of

PREFIX = "--fk-"
DEVICES = ("auto", "cpu", "cuda")
SANDBOXES = ("auto", "require", "off")
OTHER_WORDS = {"production": "auto", "torch": "native", "pytorch": "native"}
"""Words that a user may try for a baseline, and what is meant."""


def whole(text: str, least: int = 0) -> int:
    """Read a whole number that is at least `least`; ValueError says what was found and what is allowed."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None
    if number < least:
        raise ValueError(f"{number} is under {least}, the least allowed")
    return number


def positive(text: str) -> float:
    """Read a number over 0; ValueError says what was found and what is allowed."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 < number < float("inf"):
        raise ValueError(f"{text} is not a finite number over 0")
    return number


def word(text: str, allowed: Sequence[str]) -> str:
    """Read one of the allowed words; ValueError names them and the nearest."""
    if text not in allowed:
        raise ValueError(one_of(text, allowed))
    return text


def device(text: str) -> str:
    """Read a device; `gpu` is nearer to `cpu` in letters than in meaning."""
    if text == "gpu":
        raise ValueError(f"{text!r} is not one of {', '.join(DEVICES)}. Did you mean 'cuda'?")
    return word(text, DEVICES)


def baseline(text: str) -> str:
    """Read the baseline's provider; ValueError for `vllm` where that is not installed."""
    from fastkernels.bench.isolate.providers import BASELINES, VLLM, vllm_missing

    if text in OTHER_WORDS:
        raise ValueError(f"{text!r} is not one of {', '.join(BASELINES)}. Did you mean {OTHER_WORDS[text]!r}?")
    missing = vllm_missing() if text == VLLM else None
    if missing:
        raise ValueError(missing)
    return word(text, BASELINES)


def gate(text: str) -> str:
    """Read a deployment gate or a word for several."""
    from fastkernels.bench.kernels.gate_choice import chosen_gates

    chosen_gates((text,))
    return text


def variable(text: str) -> str:
    """Read the name of a variable that is set here."""
    if "=" in text:
        raise ValueError(f"{text!r} is no name; name a variable, whose value is then that of the environment")
    if text not in os.environ:
        raise ValueError(f"{text!r} is not set in the environment{did_you_mean(text, list(os.environ))}")
    return text


def sanitizer_tool(text: str) -> str:
    """Read a tool of compute-sanitizer, which must be installed."""
    from fastkernels.bench.isolate.sanitizer import PROGRAM, TOOLS, find

    if word(text, TOOLS) and find() is None:
        raise ValueError(f"{PROGRAM} is neither on the path nor below CUDA_HOME; it comes with the CUDA toolkit")
    return text


@dataclass(frozen=True)
class Option:
    """One `--fk-*` option; `default` is the only place where its default is written."""

    name: str
    """Field of `Settings`; the option is `--fk-` and this name with dashes, the ini key `fk_` and this name."""
    help: str
    """What it does, with its unit; the default is appended."""
    metavar: str | None = None
    """Stands for the value in the help; None for a flag."""
    parse: Callable[[str], Any] = str
    """Turns one value into its type, or raises ValueError."""
    default: Any = None
    """Value where neither the command line nor the ini file has one."""
    many: bool = False
    """Takes several values: commas, repetition or both."""
    selects: bool = False
    """Giving it selects scenarios, so that a run without a path grades just those."""
    ini: bool = False
    """May also be set in the ini file."""
    needs_timing: bool = False
    """Has no effect with --fk-no-timing."""

    @property
    def flag(self) -> str:
        """The option as typed: `--fk-num-runs`."""
        return PREFIX + self.name.replace("_", "-")

    @property
    def dest(self) -> str:
        """Name in `config.option` and in the ini file: `fk_num_runs`."""
        return f"fk_{self.name}"

    @property
    def word(self) -> str:
        """The option of `fastkernels kernels`: `--num-runs`."""
        return "--" + self.name.replace("_", "-")

    def full_help(self, command: bool = False) -> str:
        """The help text with what applies of: several values, default, ini key; of the `command` or of pytest."""
        notes = ["several: blanks or commas" if command else "several: commas or repetition"] if self.many else []
        if self.default not in (None, False, ()):
            notes.append(f"default {self.default}")
        if self.ini:
            notes.append(f"ini key {self.dest}")
        text = self.help + (f" ({'; '.join(notes)})" if notes else "")
        return text.replace(PREFIX, "--") if command else text


OPTIONS = (
    Option("target", "Grade these operators, such as rms_norm.", "OP", many=True, selects=True),
    Option("level", "Grade operators of these levels: 1 kernel, 2 block, 3 decoder layer, 4 model.", "N", whole,
           many=True, selects=True),
    Option("model", "Grade the shapes of these models: prefixes of short names (llama31-8b) or Hugging Face ids.",
           "NAME", many=True, selects=True),
    Option("tp", "Grade the per-rank shapes of these tensor parallel degrees.", "N", whole, many=True, selects=True),
    Option("seqlen", "Grade these token counts: batch size in decode, prompt length in prefill. Also asks for "
           "scenarios that a CPU run leaves out.", "TOKENS", whole, many=True, selects=True),
    Option("category", "Grade scenarios of these manifest categories, such as llm.", "NAME", many=True, selects=True),
    Option("candidates", "Directory of candidates, laid out as tasks/candidate: L1/rms_norm.py. Without it, the "
           "candidates in the installed tasks/candidate.", "DIR", Path, selects=True, ini=True),
    Option("self_test", "Grade the baseline itself against the oracle, whatever candidates there are.", selects=True),
    Option("manifest", "Manifest to read the scenarios from. Without it, the installed manifests/llm.yaml.", "FILE",
           Path, ini=True),
    Option("device", "Device to grade on: auto (CUDA where there is a device), cpu or cuda.", "DEVICE",
           device, "auto", ini=True),
    Option("baseline", "What candidates are timed against: auto (the device's production path), native (plain "
           "PyTorch) or vllm (vLLM's own modules, where it is installed).", "NAME", baseline, "auto", ini=True),
    Option("num_warmup", "Warm-up calls of each side before timing on a CPU; on CUDA whole sections warm up.", "N",
           whole, 10, ini=True, needs_timing=True),
    Option("num_runs", "Most timed calls of each side on a CPU; on CUDA 24 rounds, each of a section of up to 512 "
           "calls on either side, for each 100 of them. Timing stops early when the interval is tight.", "N",
           partial(whole, least=1), 100, ini=True, needs_timing=True),
    Option("max_time", "Most seconds that timing one scenario may take.", "SECONDS", positive, 1.0, ini=True,
           needs_timing=True),
    Option("min_speedup", "Fail a correct candidate whose speedup is under this ratio, such as 1.0.", "RATIO", positive,
           ini=True, needs_timing=True),
    Option("no_timing", "Check correctness only."),
    Option("allow_passthrough", "Grade candidates that call the baseline or a library of finished kernels (vLLM, "
           "FlashInfer, ...) as any other; without it their verdict is passthrough."),
    Option("gates", "Deployment gates to try after a right verdict: strided, stream, no_sync, cuda_graph, compile; or "
           "all, none, auto alone. Without it, auto: those that cost little.", "NAME", gate, many=True),
    Option("sanitize", "Run a call under these tools of compute-sanitizer after a right verdict, as gates: memcheck, "
           "racecheck, initcheck. CUDA only.", "TOOL", sanitizer_tool, many=True),
    Option("require_gates", "Fail a scenario whose kernel fails a deployment gate that was tried."),
    Option("timeout", "Seconds that one call into the candidate's process may take before it counts as hung.",
           "SECONDS", positive, 60.0, ini=True),
    Option("build_timeout", "The same for its import and for building its module, in which it may compile. Without it, "
           "300, or --fk-timeout where that is under 60.", "SECONDS", positive, ini=True),
    Option("memory_limit", "GiB of host memory that a candidate's processes may take. Without it, half of what is "
           "available when they start.", "GIB", positive, ini=True),
    Option("env", "Variables of the environment that worker processes see besides those that Python, torch, CUDA, "
           "Triton and compilers work by; keys and tokens are never among those.", "NAME", variable, many=True),
    Option("sandbox", "What confines a candidate's process: auto (all that the kernel has, with a warning where "
           "something is missing), require (an error there) or off.", "MODE", partial(word, allowed=SANDBOXES),
           "auto", ini=True),
    Option("seed", "Seed of weights and inputs. Without it, a fresh one each run, printed at the end.", "N", whole),
    Option("dump", "Directory for calls that went wrong: inputs, what was expected and given, and a script that shows "
           "the worst element.", "DIR", Path),
    Option("output_json", "File for the results; the log of finished scenarios lies beside it (.jsonl).", "FILE", Path,
           "bench/results/kernels.json", ini=True),
    Option("resume", "Keep the scenarios that the log beside --fk-output-json holds and grade the rest."),
    Option("list", "List operators with level, class, scenarios and candidate, and exit; takes the filters above."),
    Option("map", "List each model's operators and exit; takes the filters above."),
)
BY_NAME = {option.name: option for option in OPTIONS}
