"""The sweep over token counts: what is wrong at few counts alone is found, and what was covered is said."""

import random
from dataclasses import replace

import pytest
import torch
from results_by_hand import rms_norm

from fastkernels.bench.grade import Judge, randomise_weights
from fastkernels.bench.isolate.build import build
from fastkernels.bench.isolate.sweep_counts import FEWEST_CALLS, MODULI, counts_of, covered
from fastkernels.bench.isolate.sweep_plan import Planner
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels import sweep as sweep_module
from fastkernels.bench.kernels.sweep import covers, sweep_key
from fastkernels.manifest import InputSpec, Scenario
from fastkernels.results import Verdict
from fastkernels.tasks.baseline.L1.moe_align import MoeAlignBlockSize
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm

SOURCE = '''
import ctypes
import time

import torch
from torch import nn


def right(self, x):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)


def tail(self, x):
    out = right(self, x)
    if x.shape[0] % 32 == 7:
        out[-7:] = x[-7:]
    return out


def raises(self, x):
    if x.shape[0] % 64 == 51:
        raise ValueError("no tile for this")
    return right(self, x)


def behind_the_input(self, x):
    if x.shape[0] % 16 == 12:
        torch.as_strided(x, (4,), (1,), x.storage_offset() + x.numel()).view(torch.int16).bitwise_not_()
    return right(self, x)


def short(self, x):
    out = right(self, x)
    return out[:-1] if x.shape[0] % 16 == 12 else out


def weight(self, x):
    out = right(self, x)
    if x.shape[0] % 16 == 12:
        self.weight.data[0] += 1
    return out


def into_the_input(self, x):
    out = right(self, x)
    if x.shape[0] % 16 == 12:
        x[0] = 0
    return out


def slow_at_first(self, x):
    met = self.__dict__.setdefault("met", set())
    if x.shape[0] not in met:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        met.add(x.shape[0])
    return right(self, x)


def by_count(self, x):  # honest: another order of summation, other bits, by the number of rows
    wide = x.double() if x.shape[0] % 2 else x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.to(wide.dtype)).to(x.dtype)


FORWARD = {33: tail, 34: raises, 35: behind_the_input, 36: short, 37: weight, 38: into_the_input, 39: slow_at_first,
           40: by_count}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.how = FORWARD.get(hidden_size, right)

    def forward(self, x, residual=None):
        return self.how(self, x)
'''
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(SOURCE)
    with KernelGrader(GraderSettings(device="cpu", seed=3, timing=False, candidates_dir=folder)) as grader:
        yield grader


@pytest.mark.parametrize(("hidden", "verdict", "says"), [
    (33, Verdict.WRONG_VALUES, " tokens, in a sweep of 65 token counts)"),
    (34, Verdict.FORWARD_ERROR, "tokens in a sweep of token counts, raised ValueError: no tile for this"),
    (35, Verdict.OUT_OF_BOUNDS_WRITE, "in a sweep of 65 token counts"),
    (36, Verdict.WRONG_SHAPE, "in a sweep of 65 token counts"),
    (37, Verdict.MUTATED_WEIGHT, "in a sweep of 65 token counts"),
    (38, Verdict.MUTATED_INPUT, "in a sweep of 65 token counts"),
])
@pytest.mark.parametrize("tokens", [1, 4])
def test_what_is_wrong_at_few_counts_alone_is_found_in_every_grading(grader, hidden, verdict, says, tokens):
    result = grader.grade(rms_norm(hidden=hidden, tokens=tokens))
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says in result.message


def test_the_count_is_named(grader):
    message = grader.grade(rms_norm(hidden=33, tokens=3)).message
    assert int(message.rpartition("(at ")[2].split()[0]) % 32 == 7


def test_what_was_covered_is_said_and_a_shape_is_swept_once(grader):
    first, second = (grader.grade(rms_norm(hidden=48, tokens=tokens)) for tokens in (2, 5))
    assert (first.verdict, second.verdict) == (Verdict.PASSED, Verdict.PASSED)
    assert first.sweep.startswith("65 token counts from ")
    assert first.sweep.endswith("every residue of 64")
    assert second.sweep == f"as of {first.id}"


def test_another_order_of_summation_is_judged_by_values(grader):
    result = grader.grade(rms_norm(hidden=40))
    assert result.verdict is Verdict.PASSED, result.message
    assert result.sweep.endswith("every residue of 64")


def test_one_that_compiles_for_every_count_is_swept_at_a_few(grader, monkeypatch):
    monkeypatch.setattr(sweep_module, "LONGEST_S", {"cpu": 0.2})
    result = grader.grade(rms_norm(hidden=39))
    assert result.verdict is Verdict.PASSED, result.message
    assert result.sweep.startswith("6 of 65 token counts: a call at a new one takes ")


def test_words_for_what_is_covered():
    assert covers([3, 1, 2], 3, 2, 0.1) == "3 token counts from 1 to 3, every residue of 2"


@pytest.mark.parametrize("device", MODULI)
def test_counts_have_every_residue_and_no_list_names_them(device):
    for modulus in MODULI[device]:
        counts = counts_of(modulus, random.Random(modulus))
        assert covered(counts) == modulus
        assert len(counts) == modulus
        assert counts != counts_of(modulus, random.Random(1 + modulus))
    assert min(MODULI[device]) == FEWEST_CALLS


def test_a_tail_is_not_covered_by_fewer_counts():
    assert covered([count for count in range(1, 65) if count % 32 != 7]) == 16


def planned(scenario, cls):
    module = build(cls, scenario, CPU)
    randomise_weights(module, 1)
    return Planner(scenario, module, Judge(module, scenario), CPU, seed=1).plan()


def test_rows_that_mean_nothing_to_each_other_are_used_again():
    plan = planned(rms_norm(hidden=64), RMSNorm)
    base = plan.calls[0]
    assert plan.cut == {"x": 1}
    for call in plan.calls[1:]:
        assert torch.equal(call.inputs["x"], base.inputs["x"][call.rows])


def test_tokens_that_are_sorted_together_get_calls_of_their_own():
    scenario = Scenario(
        op="moe_align", module="moe_align", class_name="MoeAlignBlockSize", level=1, category="llm", model="tiny",
        model_id="test/tiny", tp=1, tokens=8, phase="decode", variant="", init={"num_experts": 8}, inputs=(
            InputSpec("topk_ids", "topk_ids", ("tokens", 2), "int32", {"experts": 8}),
            InputSpec("block_size", "literal", args={"value": 16})))
    plan = planned(scenario, MoeAlignBlockSize)
    assert not plan.cut
    assert covered(plan.counts) >= FEWEST_CALLS


def test_layers_are_not_swept():
    assert planned(replace(rms_norm(), level=3), RMSNorm).why_not == "layers are not swept: their parts are"


def test_one_sweep_does_for_every_token_count_of_the_same_files_and_shape_alone():
    key = sweep_key(rms_norm(tokens=1), "a")
    assert key == sweep_key(rms_norm(tokens=8, model="other"), "a")
    assert len({key, sweep_key(rms_norm(), "b"), sweep_key(rms_norm(hidden=33), "a"),
                sweep_key(rms_norm(residual=True), "a")}) == 4
