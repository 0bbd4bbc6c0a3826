"""A scenario of several ranks, candidates for it, and their grading."""

from pathlib import Path

import pytest

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import InputSpec, Scenario
from fastkernels.results import ScenarioResult, Verdict

HEAD = '''
import os
import time
import torch
import torch.distributed as dist
from torch import nn


class AllReduce(nn.Module):
    def forward(self, x):
        rank, size = dist.get_rank(), dist.get_world_size()
'''

HONEST = '''
        parts = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return torch.stack([part.float() for part in parts]).sum(0).to(x.dtype)
'''
OWN_PART = '''
        return x
'''
AS_IF_ALL_HAD_THE_SAME = '''
        return x * size
'''
FIRST_RANK_ONLY = '''
        own = x.clone()
        dist.all_reduce(x)
        return x if rank == 0 else own
'''
LAST_RANK_SLEEPS = '''
        if rank == size - 1:
            time.sleep(600)
        dist.all_reduce(x)
        return x
'''
LAST_RANK_EXITS = '''
        if rank == size - 1:
            os._exit(0)
        dist.all_reduce(x)
        return x
'''
LAST_RANK_RAISES = '''
        if rank == size - 1:
            raise ValueError("no peers")
        dist.all_reduce(x)
        return x
'''
LAST_RANK_SLEEPS_ON_320_CHANNELS = '''
        if rank == size - 1 and x.shape[-1] == 320:
            time.sleep(600)
        dist.all_reduce(x)
        return x
'''
STALE = '''
        first = getattr(self, "first", None)
        if first is None or first.shape != x.shape:
            dist.all_reduce(x)
            self.first = x.clone()
        return self.first.clone()
'''

WRONG_OR_LOST = [
    pytest.param(OWN_PART, Verdict.WRONG_VALUES, "rank 0: output", id="own part"),
    pytest.param(AS_IF_ALL_HAD_THE_SAME, Verdict.WRONG_VALUES, "rank 0: output", id="as if all had the same"),
    pytest.param(FIRST_RANK_ONLY, Verdict.WRONG_VALUES, "rank 1: output", id="first rank only"),
    pytest.param(LAST_RANK_SLEEPS, Verdict.HUNG, "no answer within {timeout_s:g} s", id="last rank sleeps"),
    pytest.param(LAST_RANK_EXITS, Verdict.EXITED, "rank 1: the process ended by itself with exit status 0",
                 id="last rank exits"),
    pytest.param(LAST_RANK_RAISES, Verdict.FORWARD_ERROR, "rank 1: forward raised ValueError: no peers",
                 id="last rank raises"),
    pytest.param(STALE, Verdict.WRONG_VALUES, "rank 0: output", id="stale"),
]
"""A candidate's forward, its verdict and what the message says, on whatever device."""


def allreduce(ranks: int = 2, tokens: int = 8, hidden: int = 256) -> Scenario:
    x = InputSpec("x", "rank_part", ("tokens", hidden), "bfloat16", {"ranks": ranks})
    return Scenario(op="allreduce", module="allreduce", class_name="AllReduce", level=1, category="llm", model="tiny",
                    model_id="me/tiny", tp=ranks, tokens=tokens, phase="decode", variant="", init={}, inputs=(x,))


def grader(folder: Path, forward: str, device: str, timeout_s: float = 60.0) -> KernelGrader:
    """A grader of a candidate with this forward."""
    (folder / "L1").mkdir()
    (folder / "L1" / "allreduce.py").write_text(HEAD + forward)
    return KernelGrader(GraderSettings(device=device, seed=3, timeout_s=timeout_s, candidates_dir=folder))


def graded(folder: Path, forward: str, device: str, timeout_s: float = 60.0) -> ScenarioResult:
    """What a candidate with this forward gets for two ranks."""
    with grader(folder, forward, device, timeout_s) as opened:
        return opened.grade(allreduce())


def check_named(folder: Path, forward: str, verdict: Verdict, says: str, device: str, timeout_s: float) -> None:
    """What is wrong with a candidate of WRONG_OR_LOST, or another, is its verdict, and the message says it."""
    result = graded(folder, forward, device, timeout_s)
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says.format(timeout_s=timeout_s) in result.message


def check_replaced(folder: Path, device: str, timeout_s: float) -> None:
    """Both ranks' processes are replaced where one hangs, and the next scenario passes."""
    with grader(folder, LAST_RANK_SLEEPS_ON_320_CHANNELS, device, timeout_s) as opened:
        assert opened.grade(allreduce()).verdict is Verdict.PASSED
        before = opened.worker_pids()
        assert opened.grade(allreduce(hidden=320)).verdict is Verdict.HUNG
        assert len(opened.worker_pids() & before) == 1, "who judges them stays"
        after = opened.grade(allreduce(tokens=1))
        assert after.verdict is Verdict.PASSED, (after.message, after.evidence)
        assert len(opened.worker_pids()) == 3
