"""The gates that only CUDA has: each fails the kernel that it is there for, and lets a sound one pass."""

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.timing.capture import LEGACY
from fastkernels.results import Verdict

pytestmark = pytest.mark.gpu

SOURCE = '''
import ctypes

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


def launched_without_a_stream(self, x):
    """The last copy is launched as `<<<grid, block>>>` is, and nobody looks at what the launch returns."""
    made = right(self, x)
    out = torch.empty_like(made)
    pointers = ctypes.c_void_p(out.data_ptr()), ctypes.c_void_p(made.data_ptr())
    ctypes.CDLL("libcuda.so.1").cuMemcpyDtoDAsync_v2(*pointers, ctypes.c_size_t(made.nbytes), None)
    self.__dict__["kept"] = made
    return out


FORWARD = {33: on_the_default_stream, 34: asks_the_host, 35: by_the_first_input, 36: launched_without_a_stream}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps, self.hidden_size = eps, hidden_size
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        return FORWARD.get(self.hidden_size, right)(self, x)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(SOURCE)
    return folder


@pytest.fixture(scope="module")
def grader(folder):
    settings = GraderSettings(device="cuda", seed=3, timing=False, candidates_dir=folder,
                              gates=("stream", "no_sync", "cuda_graph"))
    with KernelGrader(settings) as grader:
        yield grader


@pytest.fixture(scope="module")
def timing(folder):
    with KernelGrader(GraderSettings(device="cuda", seed=3, candidates_dir=folder)) as grader:
        yield grader


@pytest.mark.parametrize(("hidden", "failing"), [
    (32, set()), (33, {"stream", "cuda_graph"}), (34, {"no_sync", "cuda_graph"}), (35, {"cuda_graph"}),
    (36, {"stream", "cuda_graph"}),
])
def test_each_gate_fails_what_it_is_for(grader, hidden, failing):
    result = grader.grade(rms_norm(hidden=hidden))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    found = {name for name, gate in result.gates.items() if gate.failed}
    assert found == failing, result.gates
    if hidden in (33, 36):
        assert result.gates["cuda_graph"].reason == LEGACY


@pytest.mark.parametrize("hidden", [33, 36])
def test_launches_on_the_default_stream_are_graded_one_by_one(timing, hidden):
    result = timing.grade(rms_norm(hidden=hidden))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.timing is not None, result.evidence
    assert result.timing.candidate_not_captured == LEGACY
