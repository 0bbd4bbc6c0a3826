"""A call whose allocations lie between guard bands: writes beside them and what is never written are found."""

import re

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.results import Verdict

SOURCE = '''
import ctypes
import threading

import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode


def right(self, x):
    wide, out = x.float(), torch.empty_like(x)
    return out.copy_(wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float())


def behind(self, x):
    out = right(self, x)
    ctypes.memset(out.data_ptr() + out.nbytes, 0, 8)  # the allocator has rounded up that far
    return out


def behind_work(self, x):
    work = torch.zeros(x.shape[0] * 4)
    ctypes.memset(work.data_ptr() + work.nbytes, 0, 8)
    return right(self, x)


def zeros_expected(self, x):
    sums = torch.empty(x.shape[0], 1).nan_to_num(float("nan"), 0, 0)
    if not sums.isnan().any():
        sums.zero_()  # as memory that happens to hold zeros
    return right(self, x) + sums.to(x.dtype)


def not_in_a_mode(self, x):
    if _get_current_dispatch_mode() is not None:
        raise RuntimeError("compiled code does not run in one")
    return right(self, x)


def in_a_thread(self, x):
    outs = []
    thread = threading.Thread(target=lambda: outs.append(right(self, x)))
    thread.start()
    thread.join()
    return outs[0]


def kept(self, x):
    if getattr(self, "work", None) is None or self.work.shape[0] < x.shape[0]:
        self.work = torch.empty(x.shape[0] + 3, x.shape[1])
    self.work[: x.shape[0]] = right(self, x)
    return self.work[: x.shape[0]].to(x.dtype)


FORWARD = {48: behind, 56: behind_work, 64: zeros_expected, 72: not_in_a_mode, 80: in_a_thread, 88: kept}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.how = FORWARD.get(hidden_size, right)

    def forward(self, x, residual=None):
        return self.how(self, x)
'''


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard_rows")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(SOURCE)
    with KernelGrader(GraderSettings(device="cpu", seed=3, timing=False, candidates_dir=folder)) as grader:
        yield grader


@pytest.mark.parametrize(("hidden", "verdict", "says"), [
    (48, Verdict.OUT_OF_BOUNDS_WRITE, "memory beside output was written"),
    (56, Verdict.OUT_OF_BOUNDS_WRITE, "memory beside a temporary tensor of shape ["),
])
def test_what_is_written_beside_is_found(grader, hidden, verdict, says):
    result = grader.grade(rms_norm(hidden=hidden))
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says in result.message
    assert result.message.endswith("(in a call whose allocations lay between guard bands and held NaN)")


def test_what_is_never_written_is_found(grader):
    """Between guard bands at the latest; what a draw with NaN has left in memory may show it before."""
    result = grader.grade(rms_norm(hidden=64))
    assert result.verdict is Verdict.WRONG_NONFINITE, (result.message, result.evidence)
    assert "got nan" in result.message
    assert re.search(r"between guard bands and held NaN\)$|draw nan@", result.message), result.message


@pytest.mark.parametrize("hidden", [72, 80, 88, 96])
def test_honest_ways_to_allocate_pass(grader, hidden):
    result = grader.grade(rms_norm(hidden=hidden))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
