"""The gates that only CUDA has: each fails the kernel that it is there for, and lets a sound one pass."""

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.results import Verdict

pytestmark = pytest.mark.gpu

SOURCE = '''
import torch
from torch import nn


def right(self, x, residual=None):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)


def on_the_default_stream(self, x):
    with torch.cuda.stream(torch.cuda.default_stream()):
        return right(self, x)


def asks_the_host(self, x):
    return right(self, x) if x.abs().sum().item() >= 0 else x


def by_the_first_input(self, x):
    """Right for the values that it has seen first: a graph holds them for good."""
    self.__dict__.setdefault("bound", None)
    if torch.cuda.is_current_stream_capturing():
        return self.bound
    self.bound = right(self, x)
    return self.bound.clone()


FORWARD = {33: on_the_default_stream, 34: asks_the_host, 35: by_the_first_input}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps, self.hidden_size = eps, hidden_size
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        return FORWARD.get(self.hidden_size, right)(self, x)
'''


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(SOURCE)
    settings = GraderSettings(device="cuda", seed=3, timing=False, candidates_dir=folder,
                              gates=("stream", "no_sync", "cuda_graph"))
    with KernelGrader(settings) as grader:
        yield grader


@pytest.mark.parametrize(("hidden", "failing"), [
    (32, set()), (33, {"stream"}), (34, {"no_sync", "cuda_graph"}), (35, {"cuda_graph"}),
])
def test_each_gate_fails_what_it_is_for(grader, hidden, failing):
    result = grader.grade(rms_norm(hidden=hidden))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    found = {name for name, gate in result.gates.items() if gate.failed}
    assert found >= failing, result.gates
    assert found - failing <= ({"cuda_graph"} if hidden == 33 else set()), result.gates
