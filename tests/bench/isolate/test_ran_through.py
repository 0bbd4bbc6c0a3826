"""Packages that a call ran through are named by the code that ran; tools, Python's own and the candidate's are not."""

import sys
import threading
from pathlib import Path

import pytest
import torch
from results_by_hand import rms_norm

from fastkernels.bench.isolate.ran_through import CallTrace, ran_through
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.results import Verdict

NORM = '''
import torch
import triton
import triton.language as tl


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


@triton.jit
def twice(x):
    return x + x


@triton.jit
def doubled(pointer, n: tl.constexpr):
    offsets = tl.arange(0, n)
    tl.store(pointer + offsets, twice(tl.load(pointer + offsets)))
'''

CANDIDATE = '''
import sys

import torch
from torch import nn

sys.path.insert(0, {path!r})
from normkit.fast import norm


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        return norm(x, self.weight, self.eps)
'''


OWN_KERNEL = '''
import triton
from normkit.fast import twice


@triton.jit
def kernel(pointer, n):
    twice(pointer)
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package normkit 1.2, as an installer leaves it."""
    site = tmp_path_factory.mktemp("site")
    (site / "normkit").mkdir()
    (site / "normkit" / "__init__.py").write_text("")
    (site / "normkit" / "fast.py").write_text(NORM)
    info = site / "normkit_triton-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: normkit-triton\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("normkit\n")
    return site


@pytest.fixture
def normkit(site, monkeypatch):
    from fastkernels.bench.isolate import ran_through

    here = str(Path(__file__).resolve().parents[3])  # with it on the path this module would be of a package `tests`
    monkeypatch.setattr(sys, "path", [str(site), *(path for path in sys.path if path != here)])
    ran_through._distributions.cache_clear()
    import normkit.fast

    yield normkit.fast
    ran_through._distributions.cache_clear()


def traced(call, own=None):
    with CallTrace() as trace:
        call()
    return trace.packages(own)


def launched(kernel, own=None):
    """Packages of a launch: without a device it ends where the driver is asked for."""
    with pytest.raises((RuntimeError, ValueError), match=r"driver|cpu tensor"), CallTrace() as trace:
        kernel[(1,)](torch.ones(4), 4)
    return trace.packages(own)


def test_code_that_ran_names_its_package(normkit):
    x = torch.ones(2, 8)
    assert traced(lambda: normkit.norm(x, x[0], 1e-6)) == ["normkit 1.2"]
    assert traced(lambda: torch.nn.Linear(4, 4)(torch.ones(4))) == []


def test_a_thread_of_the_call_counts(normkit):
    def call():
        thread = threading.Thread(target=normkit.norm, args=(torch.ones(2, 8), torch.ones(8), 1e-6))
        thread.start()
        thread.join()

    assert traced(call) == ["normkit 1.2"]


def test_a_package_that_lies_in_the_candidates_folder_is_its_own(normkit, site):
    assert traced(lambda: normkit.norm(torch.ones(2, 8), torch.ones(8), 1e-6), own=site) == []


def test_kernels_of_a_package_count_where_nothing_else_of_it_runs(normkit):
    import triton

    assert launched(normkit.doubled) == ["normkit 1.2"]
    assert launched(triton.heuristics({})(normkit.doubled)) == ["normkit 1.2"]


def test_kernels_that_a_kernel_calls_count(normkit, tmp_path, monkeypatch):
    (tmp_path / "own_kernel.py").write_text(OWN_KERNEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_kernel

    assert launched(own_kernel.kernel, own=tmp_path) == ["normkit 1.2"]


def test_an_operator_without_python_counts_by_its_namespace(normkit):
    library = torch.library.Library("normkit", "DEF")
    library.define("same(Tensor x) -> Tensor")
    library.impl("same", torch.clone, "CPU")
    try:
        assert traced(lambda: torch.ops.normkit.same(torch.ones(2))) == ["normkit 1.2"]
        assert traced(lambda: torch.ops.aten.relu(torch.ones(2))) == []
    finally:
        library._destroy()


def test_what_was_watched_before_is_watched_again():
    def mine(frame, event, arg):
        pass

    sys.setprofile(mine)
    try:
        traced(lambda: None)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(("said", "read"), [
    (["normkit 1.2", "quack"], ("normkit 1.2", "quack")), ("normkit", ()), (None, ()),
    (["a b c", "<script>", 3, "x" * 99, "fine"], ("fine",)),
    ([f"p{i}" for i in range(99)], tuple(f"p{i}" for i in range(20))),
], ids=["names", "text", "nothing", "no names", "too many"])
def test_only_names_are_taken_from_the_candidate(said, read):
    assert ran_through({"ran_through": said}) == read


def test_the_result_names_the_package(site, tmp_path):
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text(CANDIDATE.format(path=str(site)))
    with KernelGrader(GraderSettings(device="cpu", seed=3, timing=False, candidates_dir=tmp_path)) as grader:
        result = grader.grade(rms_norm())
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.ran_through == ("normkit 1.2",)
