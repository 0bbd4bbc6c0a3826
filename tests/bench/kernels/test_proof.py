"""What a candidate does otherwise in timed calls, in repeated ones or with its first weights is found."""

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader, timed
from fastkernels.results import Verdict

HEAD = '''
import os
import subprocess
import sys
import torch
from torch import nn


def norm(self, x, residual=None):
    wide = x.float() if residual is None else x.float() + residual.float()
    normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
    return normed if residual is None else (normed, wide.to(x.dtype))


def row_by_row(self, x, share=1):
    rows = max(1, x.shape[0] // share)
    return torch.cat([*(norm(self, x[i:i + 1]) for i in range(rows)), x[rows:]])


def within(*functions):
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name not in functions:
        frame = frame.f_back
    return frame is not None


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.seen = {}

'''

SKIPS_WHILE_TIMED = '''
    def forward(self, x, residual=None):
        return row_by_row(self, x, 8 if within("on_measure", "on_eager", "on_replay") else 1)
'''

SKIPS_IN_BATCHES_TOO = '''
    def forward(self, x, residual=None):
        return row_by_row(self, x, 8 if within("on_measure", "on_eager", "on_replay", "on_batch") else 1)
'''

FIRST_WEIGHTS = '''
    def forward(self, x, residual=None):
        if "weight" not in self.seen:
            self.seen["weight"] = self.weight.data.clone()
        kept, self.weight.data = self.weight.data, self.seen["weight"]
        out = norm(self, x, residual)
        self.weight.data = kept
        return out
'''

CHANGES_A_WEIGHT_ONCE_TIMED = '''
    def forward(self, x, residual=None):
        if os.path.exists("FLAG"):
            self.weight.data.add_(1)
        return norm(self, x, residual)
'''

WRONG_AT_SECOND_SIGHT = '''
    def forward(self, x, residual=None):
        key = float(x.float().sum())
        again = key in self.seen
        self.seen[key] = True
        return norm(self, x, residual) * (1.5 if again else 1.0)
'''

HOG = '''
    def forward(self, x, residual=None):
        if "hogs" not in self.seen:
            self.seen["hogs"] = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        return norm(self, x, residual)
'''

RELOADED = '''
    def process_weights_after_loading(self):
        self.seen["weight"] = self.weight.data.float()

    def forward(self, x, residual=None):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.seen["weight"]).to(x.dtype)
'''

KEPT_FROM_REPACKING = '''
    def process_weights_after_loading(self):
        self.packed = self.weight.data.float()
        del self.weight

    def forward(self, x, residual=None):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.packed).to(x.dtype)
'''


def graded(folder, forward, timing, **settings):
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(HEAD + forward)
    settings = {"device": "cpu", "seed": 3, "timing": timing, "max_time_s": 0.2, "candidates_dir": folder, **settings}
    with KernelGrader(GraderSettings(**settings)) as grader:
        # so few elements that torch uses no threads: load beside the test only lengthens calls
        return grader.grade(rms_norm(hidden=256, tokens=64))


@pytest.mark.parametrize(("forward", "timing", "verdict", "says"), [
    (SKIPS_WHILE_TIMED, True, Verdict.TIMING_TAMPERED, "calls on new inputs, outputs handed over, took"),
    (HOG, True, Verdict.TIMING_TAMPERED, "of CPU time in"),
    (SKIPS_IN_BATCHES_TOO, True, Verdict.WRONG_VALUES, "in a batch"),
    (FIRST_WEIGHTS, False, Verdict.WRONG_VALUES, "after other weights"),
    (WRONG_AT_SECOND_SIGHT, False, Verdict.NONDETERMINISTIC, "right in the first call, wrong_values in the same"),
], ids=["skips while timed", "hog", "skips in batches too", "first weights", "wrong at second sight"])
def test_a_trick_is_found(tmp_path, forward, timing, verdict, says, quiet_machine):
    result = graded(tmp_path, forward, timing)
    assert result.verdict is verdict, (result.verdict, result.message, result.evidence)
    assert says in result.message
    assert result.timing is None


@pytest.mark.parametrize("forward", [RELOADED, KEPT_FROM_REPACKING], ids=["kept", "replaced"])
def test_weights_repacked_where_it_is_declared_may_be_loaded_again(tmp_path, forward):
    result = graded(tmp_path, forward, timing=True)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)


def test_a_weight_that_is_changed_in_the_call_after_timing_is_found(tmp_path, monkeypatch):
    flag = tmp_path / "timed"
    monkeypatch.setattr(timed, "_credible_times", lambda *args: flag.touch())
    result = graded(tmp_path, CHANGES_A_WEIGHT_ONCE_TIMED.replace("FLAG", str(flag)), timing=True,
                    sandbox="off")  # it is told by a file
    assert result.verdict is Verdict.MUTATED_WEIGHT, (result.message, result.evidence)
    assert "after timing" in result.message
    assert result.timing is None
