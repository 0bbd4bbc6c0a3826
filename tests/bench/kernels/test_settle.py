"""Processes that a candidate has started are waited for until they rest, and no longer than MOST_S."""

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels.settle import MOST_S, WINDOW_S, settle
from fastkernels.bench.kernels.workers import Workers
from fastkernels.results import Verdict

CANDIDATE = """
import os
import subprocess
import sys
import torch
from torch import nn

HELPER = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
THREADS = os.environ["TORCHINDUCTOR_COMPILE_THREADS"]


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        assert THREADS == "1"
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
"""


class Machine:
    """A clock that only sleep moves, and processes that use `share` of a core until `until`."""

    def __init__(self, share, until):
        self.share, self.until, self.now = share, until, 0.0

    def sleep(self, seconds):
        self.now += seconds

    def cpu_s(self):
        return self.share * min(self.now, self.until)

    def waited(self):
        return settle(self.cpu_s, lambda: self.now, self.sleep)


@pytest.mark.parametrize(("share", "until", "least", "most"), [
    (0.0, 0.0, WINDOW_S, WINDOW_S), (0.01, 99.0, WINDOW_S, WINDOW_S), (1.0, 3.0, 3.0, 3.0 + 2 * WINDOW_S),
    (0.3, 99.0, MOST_S, MOST_S + WINDOW_S),
], ids=["at rest", "nearly at rest", "starts for three seconds", "a hog"])
def test_it_waits_as_long_as_work_goes_on(share, until, least, most):
    assert least <= Machine(share, until).waited() <= most + 1e-9


def test_a_grader_waits_for_helpers_alone(tmp_path, monkeypatch, clocks_agree):
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text(CANDIDATE)
    waited, wait = [], Workers.settle
    monkeypatch.setattr(Workers, "settle", lambda self: waited.append(wait(self)))
    for more in ({"candidates_dir": tmp_path}, {"self_test": True}):
        with KernelGrader(GraderSettings(device="cpu", seed=3, num_runs=5, max_time_s=0.1, **more)) as grader:
            assert grader.grade(rms_norm()).verdict is Verdict.PASSED
    with_a_helper, alone = waited
    assert with_a_helper > 0
    assert alone == 0.0
