"""Timed calls on memory that both workers see: what the candidate does there, the trusted side finds by itself.

On for CUDA only; here it is switched on for the CPU, where the same code runs over a memory file.
"""

import pytest
from results_by_hand import rms_norm, silu_and_mul

from fastkernels.bench.kernels import GraderSettings, KernelGrader, timed
from fastkernels.results import Verdict

CHEAT = """
import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self.started_in = None

    def forward(self, x, residual=None):
        if self.started_in is None:
            self.started_in = self.weight.data_ptr()
        if self.weight.data_ptr() != self.started_in:
            {trick}
        wide = x.float() if residual is None else x.float() + residual.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return normed.to(x.dtype) if residual is None else (normed.to(x.dtype), wide.to(x.dtype))
"""


@pytest.fixture
def shared(monkeypatch):
    monkeypatch.setattr(timed, "SAME_MEMORY", {"cpu": True})


@pytest.fixture
def grade(tmp_path, shared):
    def run(trick, scenario):
        (tmp_path / "L1").mkdir(exist_ok=True)
        (tmp_path / "L1" / "rms_norm.py").write_text(CHEAT.format(trick=trick))
        settings = GraderSettings(device="cpu", seed=3, max_time_s=0.1, candidates_dir=tmp_path,
                                  sandbox="off")  # a call tells by a file that it was on shared memory
        with KernelGrader(settings) as grader:
            return grader.grade(scenario)
    return run


@pytest.mark.parametrize("scenario", [rms_norm(tokens=5), rms_norm(tokens=3, residual=True), silu_and_mul()],
                         ids=["weights", "in place", "no weights"])
def test_the_baseline_passes_and_its_inputs_are_private_again(shared, scenario):
    with KernelGrader(GraderSettings(device="cpu", seed=3, max_time_s=0.1, self_test=True)) as grader:
        result = grader.grade(scenario)
        again = grader.grade(rms_norm(tokens=9))
    assert result.verdict is again.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.timing is not None


def test_an_honest_candidate_passes_with_its_weights_moved(grade, tmp_path):
    result = grade(f"open({str(tmp_path / 'moved')!r}, 'w').close()", rms_norm(tokens=5))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert (tmp_path / "moved").exists(), "no call was on shared memory: the tests beside this one try nothing"


@pytest.mark.parametrize(("trick", "verdict", "what"), [
    ("self.weight.data[1] += 1", Verdict.MUTATED_WEIGHT, "weight"),
    ("x[0, 0] = 9.0", Verdict.MUTATED_INPUT, "x"),
    ("x.as_strided((1,), (1,), x.storage_offset() + x.numel()).fill_(3.0)", Verdict.OUT_OF_BOUNDS_WRITE, "beside"),
], ids=["weight", "input", "beside"])
def test_what_changes_in_timed_calls_only_is_found_by_the_trusted_side(grade, trick, verdict, what):
    result = grade(trick, rms_norm(tokens=5))
    assert result.verdict is verdict, (result.message, result.evidence)
    assert "timed calls changed" in result.message or "in a batch of calls on new inputs" in result.message
    assert what in result.message
    assert result.timing is None


def test_a_weight_changed_in_the_call_after_timing_is_found(grade, monkeypatch, tmp_path):
    flag = tmp_path / "timed"
    original = timed._credible_times

    def then_flag(*args):
        comparison = original(*args)
        flag.touch()
        return comparison

    monkeypatch.setattr(timed, "_credible_times", then_flag)
    trick = f"import os; os.path.exists({str(flag)!r}) and self.weight.data.add_(1)"
    result = grade(trick, rms_norm(tokens=5))
    assert result.verdict is Verdict.MUTATED_WEIGHT, (result.message, result.evidence)
    assert "after timing" in result.message
