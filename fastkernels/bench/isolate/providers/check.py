"""Holds a stand-in to the rules of a candidate, before its times count for anything."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import CallOutcome, Draw, Finding, Judge
from fastkernels.bench.grade.effects import copies, shared_memory
from fastkernels.bench.isolate.providers.stand_in import StandIn
from fastkernels.results import Verdict
from fastkernels.runtime.invoke import invoke


def check_stand_in(stand_in: StandIn, baseline: nn.Module, judge: Judge, inputs: Mapping[str, Any],
                   draw: Draw) -> Finding | None:
    """Call the stand-in on these inputs and judge the outcome; TASK_INVALID where it is wrong, None where it is right.

    One call at the listed shape with normal values: how it rounds elsewhere is its own matter, a comparison with what
    computes something else is not.
    """
    own = copies(inputs)
    try:
        with torch.inference_mode():
            outputs = invoke(stand_in.current(), own)
    except Exception as error:
        return Finding(Verdict.TASK_INVALID, f"the baseline of {stand_in.provider} failed: "
                                             f"{type(error).__name__}: {error}"[:500])
    aliases = [list(pair) for pair in shared_memory(baseline, own, outputs)]
    found = judge.judge(inputs, CallOutcome(outputs, own, aliases=aliases), draw)
    if found.verdict.ok:
        return None
    what = f"the baseline of {stand_in.provider} is wrong itself: {found.verdict}: {found.message}"
    return replace(found, verdict=Verdict.TASK_INVALID, message=what)
