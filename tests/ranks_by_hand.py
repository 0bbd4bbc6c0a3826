"""A scenario of several ranks, candidates for it, and their grading."""

from pathlib import Path

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import InputSpec, Scenario
from fastkernels.results import ScenarioResult

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
