"""What to do about a finding whose cause is known: the second line of a message."""

import re
from dataclasses import dataclass

from fastkernels.results import Verdict


@dataclass(frozen=True)
class Advice:
    """One known cause."""

    verdicts: tuple[Verdict, ...]
    """Findings that it has, in calls of the candidate."""
    words: re.Pattern[str]
    """What the message or the evidence says then."""
    line: str
    """What to do."""


REUSED = ("an output must stay as it is in the next call: torch.compile(mode='reduce-overhead') returns memory of its "
          "CUDA graph; clone the output or use mode='default'")

TRITON = ("a Triton kernel runs on a GPU, or anywhere in Triton's interpreter: TRITON_INTERPRET=1 pytest ... "
          "(whether it is right; its times say nothing)")

KNOWN = (
    Advice((Verdict.IMPORT_ERROR, Verdict.INIT_ERROR, Verdict.FORWARD_ERROR),
           re.compile(r"0 active drivers|cannot be accessed from Triton \(cpu tensor\?\)"), TRITON),
    Advice((Verdict.ALIASED_OUTPUT,), re.compile(r"that of the previous call"), REUSED),
    Advice((Verdict.FORWARD_ERROR,), re.compile(r"tensor output of CUDAGraphs that has been overwritten"), REUSED),
    Advice((Verdict.IMPORT_ERROR, Verdict.INIT_ERROR, Verdict.FORWARD_ERROR),
           re.compile(r"Ninja is required to load C\+\+ extensions|CUDA_HOME environment variable is not set"
                      r"|No such file or directory: '[^']*nvcc'|nvcc: (?:command )?not found"),
           "the machine lacks what builds a kernel (nvcc or ninja): have both on PATH, or CUDA_HOME set, for pytest"),
    Advice((Verdict.INIT_ERROR, Verdict.FORWARD_ERROR), re.compile(r"out of resource: shared memory"),
           "a block needs more shared memory than the device has: smaller blocks or fewer stages"),
)
"""The first that fits is taken."""


def advised(verdict: Verdict, message: str, evidence: str) -> str:
    """The message, with what to do about it as its second line where that is known."""
    for advice in KNOWN:
        if verdict in advice.verdicts and (advice.words.search(message) or advice.words.search(evidence)):
            return f"{message}\n{advice.line}"
    return message
