"""The pipeline on a CUDA device: arenas in memory that processes share, timing, lost contexts."""

import pytest
from results_by_hand import rms_norm, silu_and_mul

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.timing.sections import METHOD
from fastkernels.results import Verdict

pytestmark = pytest.mark.gpu

SOURCE = '''
import torch
from torch import nn


def right(self, x, residual):
    wide = x.float() if residual is None else x.float() + residual.float()
    normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
    return normed if residual is None else (normed, wide.to(x.dtype))


def beyond_the_end(self, x, residual):
    torch.as_strided(x, (4,), (1,), x.storage_offset() + x.numel()).view(torch.int16).bitwise_not_()
    return right(self, x, residual)


def asleep(self, x, residual):
    torch.cuda._sleep(2**50)
    return right(self, x, residual)


FORWARD = {
    33: lambda self, x, residual: x[torch.full((1,), 2**40, device=x.device)],
    34: lambda self, x, residual: torch.empty(2**45, device=x.device),
    35: lambda self, x, residual: right(self, x, residual).cpu(),
    36: beyond_the_end,
    37: asleep,
}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps, self.hidden_size = eps, hidden_size
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        return FORWARD.get(self.hidden_size, right)(self, x, residual)
'''


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(SOURCE)
    settings = GraderSettings(device="cuda", seed=3, timing=False, timeout_s=10.0, candidates_dir=folder)
    with KernelGrader(settings) as grader:
        yield grader


@pytest.fixture(scope="module")
def timing():
    with KernelGrader(GraderSettings(device="cuda", seed=3, self_test=True)) as grader:
        yield grader


@pytest.mark.parametrize("scenario", [
    rms_norm(hidden=4096), rms_norm(tokens=512, hidden=4096, residual=True), silu_and_mul(tokens=512, hidden=14336),
    rms_norm(tokens=8192, hidden=8192, residual=True),
], ids=["small", "in place", "no weights", "arena grows"])
def test_the_baseline_passes_with_device_times(timing, scenario):
    result = timing.grade(scenario)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.baseline_provider == "triton"
    assert result.timing is not None
    assert result.timing.method == METHOD


@pytest.mark.parametrize(("hidden", "verdict"), [
    (33, Verdict.FORWARD_ERROR), (34, Verdict.OUT_OF_MEMORY), (35, Verdict.WRONG_DEVICE),
    (36, Verdict.OUT_OF_BOUNDS_WRITE), (37, Verdict.HUNG),
])
def test_what_goes_wrong_on_the_device_costs_its_scenario_only(grader, hidden, verdict):
    result = grader.grade(rms_norm(hidden=hidden))
    assert result.verdict is verdict, (result.message, result.evidence)
    after = grader.grade(rms_norm(hidden=64, tokens=hidden))
    assert after.verdict is Verdict.PASSED, (after.message, after.evidence)


@pytest.mark.parametrize("scenario", [rms_norm(hidden=4096), rms_norm(tokens=512, hidden=4096, residual=True),
                                      silu_and_mul(tokens=8, hidden=4096)], ids=["norm", "residual", "activation"])
def test_every_residue_of_256_is_swept(grader, scenario):
    result = grader.grade(scenario)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.sweep.endswith("every residue of 256")
