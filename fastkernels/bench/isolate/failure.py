"""Turns what a candidate raised into a verdict, one line and the frames that are its own."""

import re
import traceback
from pathlib import Path
from typing import Any

import torch

from fastkernels.bench.isolate import compiler_errors
from fastkernels.bench.isolate.memory import tells_out_of_memory
from fastkernels.bench.isolate.passthrough import ADVICE, is_passthrough
from fastkernels.results import Verdict

MAX_LINE = 300
"""Characters of a message."""

MAX_HEAD = 100
"""Characters of an exception's own first line before a compiler's error."""

MAX_EVIDENCE = 8000
"""Characters of a traceback."""

_PLACE = re.compile(r"at \d+:\d+:")
_HARNESS = str(Path(__file__).resolve().parents[1])
_INVOKE = str(Path(__file__).resolve().parents[2] / "runtime" / "invoke.py")
_TORCH = str(Path(torch.__file__).resolve().parent)


def failure(error: BaseException, verdict: Verdict, phase: str) -> dict[str, Any]:
    """Describe an exception of the candidate; running out of memory and a refused import have their own verdicts."""
    text = exception_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or tells_out_of_memory(text):
        verdict = Verdict.OUT_OF_MEMORY
    elif is_passthrough(error):
        verdict = Verdict.PASSTHROUGH
        text = text if ADVICE in text else f"{text}; {ADVICE}"
    return {"verdict": str(verdict), "message": f"{phase} raised {text}", "evidence": candidate_frames(error)}


def exception_line(error: BaseException) -> str:
    """`ValueError: the first line`, whatever the exception's own str() does; with a compiler's first error, if any."""
    try:
        first, told = compiler_errors.first_line(str(error)), compiler_errors.first_error(error)
    except Exception as second:
        first, told = f"(its message cannot be read: {type(second).__name__})", ""
    line = f"{type(error).__name__}: {first}".removesuffix(": ")
    if not told or told in line:
        return line[:MAX_LINE]
    if _PLACE.fullmatch(first):  # Triton's first line says where alone
        return f"{type(error).__name__}: {told}"[:MAX_LINE]
    head = line.removesuffix(":") if len(line) <= MAX_HEAD else f"{line[:MAX_HEAD]} ..."
    return f"{head}: {told}"[:MAX_LINE]


def candidate_frames(error: BaseException) -> str:
    """The traceback from the candidate's first frame on; frames of torch's call machinery are left out."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((_HARNESS, _INVOKE, _TORCH, "<frozen importlib"))]
    try:
        lines = traceback.format_list(own) + traceback.format_exception_only(error)
    except Exception as second:  # an exception class with a __str__ of its own kind
        lines = [*traceback.format_list(own), f"{type(error).__name__} (its message cannot be read: {second!r})"]
    return "".join(lines)[-MAX_EVIDENCE:].strip()
