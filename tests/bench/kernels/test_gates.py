"""Deployment gates: a kernel that is right in a plain call and not when deployed is told so, and keeps its verdict."""

from dataclasses import replace

import pytest
from results_by_hand import HANG_S, rms_norm, silu_and_mul

from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels.gate_choice import AUTO_GATES, chosen_gates
from fastkernels.manifest import InputSpec, Selection, load_manifest
from fastkernels.results import Gate, GateOutcome, Verdict

SOURCE = '''
import os
import signal

import torch
from torch import nn


def right(self, x, residual):
    wide = x.float() if residual is None else x.float() + residual.float()
    normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
    return normed if residual is None else (normed, wide.to(x.dtype))


def rows_taken_for_dense(self, x, residual):
    dense = torch.as_strided(x, x.shape, (x.shape[-1], 1))
    return right(self, dense, residual)


def host_in_the_way(self, x, residual):
    return right(self, x * 1 if x.sum().item() == 0 else x, residual)


def right_out_of_a_graph(self, x, residual):
    return right(self, x, residual) * (0 if torch.compiler.is_compiling() else 1)


def ends_on_strides(self, x, residual):
    if not torch.compiler.is_compiling() and not x.is_contiguous():
        os.kill(os.getpid(), signal.SIGKILL)
    return right(self, x, residual)


def hangs_on_strides(self, x, residual):
    while not torch.compiler.is_compiling() and not x.is_contiguous():
        pass
    return right(self, x, residual)


def raises_on_strides(self, x, residual):
    if not torch.compiler.is_compiling() and not x.is_contiguous():
        raise ValueError("x must be contiguous")
    return right(self, x, residual)


def beside_the_rows(self, x, residual):
    if not torch.compiler.is_compiling() and not x.is_contiguous():
        torch.as_strided(x, (1,), (1,), x.storage_offset() + x.shape[-1]).view(torch.int16).bitwise_not_()
    return right(self, x, residual)


FORWARD = {33: rows_taken_for_dense, 34: host_in_the_way, 35: right_out_of_a_graph, 36: ends_on_strides,
           37: hangs_on_strides, 38: raises_on_strides, 39: beside_the_rows}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.how = FORWARD.get(hidden_size, right)

    def forward(self, x, residual=None):
        return self.how(self, x, residual)
'''
CPU_GATES = {"strided": "passed", "stream": "not_applicable", "no_sync": "not_applicable",
             "cuda_graph": "not_applicable", "compile": "passed"}


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(SOURCE)
    settings = GraderSettings(device="cpu", seed=3, timing=False, candidates_dir=folder, gates=("all",))
    with KernelGrader(settings) as grader:
        yield grader


@pytest.fixture
def little_patience(monkeypatch):
    """The supervisor waits HANG_S for a strided call; all else, as a first trace on a busy machine, has its time."""
    def impatient(self, timeout_s):
        return answer(self, HANG_S if getattr(self, "asked", {}).get("gate") == Gate.STRIDED else timeout_s)

    def noted(self, message):
        self.asked = message
        post(self, message)

    post, answer = WorkerProcess.post, WorkerProcess.answer
    with monkeypatch.context() as patched:
        patched.setattr(WorkerProcess, "post", noted)
        patched.setattr(WorkerProcess, "answer", impatient)
        yield


def outcomes(result):
    return {name: str(gate.outcome) for name, gate in result.gates.items()}


def test_a_sound_kernel_passes_what_applies(grader):
    result = grader.grade(rms_norm(hidden=32))
    assert result.verdict is Verdict.PASSED
    assert outcomes(result) == CPU_GATES
    assert result.gates["cuda_graph"].reason == "needs CUDA"


@pytest.mark.parametrize(("hidden", "gate", "says"), [
    (33, "strided", "wrong_values"),
    (34, "compile", "forward raised"),
    (35, "compile", "wrong_"),
    (36, "strided", "crashed: the process was ended by SIGKILL"),
    (38, "strided", "forward raised ValueError: x must be contiguous"),
    (39, "strided", "out_of_bounds_write"),
])
def test_a_kernel_that_fails_one_keeps_its_verdict_and_the_other_gates(grader, hidden, gate, says):
    check_one_fails(grader, hidden, gate, says)


def test_a_kernel_that_hangs_in_one_keeps_its_verdict_and_the_other_gates(grader, little_patience):
    check_one_fails(grader, 37, "strided", f"hung: no answer within {HANG_S:g} s")


def check_one_fails(grader, hidden, gate, says):
    result = grader.grade(rms_norm(hidden=hidden))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert outcomes(result) == CPU_GATES | {gate: "failed"}, result.gates
    assert says in result.gates[gate].reason
    after = grader.grade(rms_norm(hidden=32, tokens=hidden))
    assert (after.verdict, outcomes(after)) == (Verdict.PASSED, CPU_GATES)


def test_a_single_row_has_no_stride(grader):
    assert outcomes(grader.grade(rms_norm(hidden=33, tokens=1)))["strided"] == "not_applicable"


def test_a_wrong_kernel_has_no_gates(tmp_path):
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text(SOURCE.replace("* self.weight.float()", ""))
    with KernelGrader(GraderSettings(device="cpu", timing=False, candidates_dir=tmp_path)) as grader:
        result = grader.grade(rms_norm(hidden=32))
    assert not result.verdict.correct
    assert result.gates == {}


def latents(tokens, hidden=32):
    """Latents as a slice of a projection that is three times as wide."""
    x = InputSpec("x", "normal", ("tokens", hidden), "bfloat16", strides=(3 * hidden, 1))
    return replace(rms_norm(tokens, hidden=hidden), variant="kv_a_norm", inputs=(x,))


def test_slices_of_the_scenario_are_slices_in_every_call(grader, clocks_agree):
    """Each kernel below looks at strides in `forward`: what was a gate is a verdict, timed batches included."""
    settings = GraderSettings(**{**grader.settings.__dict__, "timing": True, "max_time_s": 0.1, "gates": ("all",)})
    with KernelGrader(settings) as timing:
        result = timing.grade(latents(9))
        assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
        assert outcomes(result) == CPU_GATES | {"strided": "not_applicable"}
        assert result.gates["strided"].reason == "its model passes slices, and so did every call before"
    assert grader.grade(latents(1)).verdict is Verdict.PASSED


@pytest.mark.parametrize(("hidden", "verdict"), [
    (33, Verdict.WRONG_VALUES), (38, Verdict.FORWARD_ERROR), (39, Verdict.OUT_OF_BOUNDS_WRITE),
])
def test_a_kernel_that_ignores_the_strides_of_its_scenario_is_wrong(grader, hidden, verdict):
    """The first three of those that pass above where rows lie together."""
    assert grader.grade(latents(8, hidden)).verdict is verdict


def test_an_operator_that_no_model_passes_slices_to():
    with KernelGrader(GraderSettings(device="cpu", timing=False, self_test=True)) as grader:
        result = grader.grade(silu_and_mul())
    assert result.verdict is Verdict.PASSED
    assert outcomes(result) == {"strided": "not_applicable"}


def test_gates_come_after_timing_too(grader, clocks_agree):
    settings = GraderSettings(**{**grader.settings.__dict__, "timing": True, "max_time_s": 0.1})
    with KernelGrader(settings) as timing:
        result = timing.grade(rms_norm(hidden=33, tokens=9))
    assert result.timing is not None, result
    assert outcomes(result) == CPU_GATES | {"strided": "failed"}


@pytest.mark.parametrize(("words", "gates"), [
    ((), AUTO_GATES), (("auto",), AUTO_GATES), (("none",), ()), (("all",), tuple(Gate)),
    (("compile", "strided"), (Gate.STRIDED, Gate.COMPILE)),
])
def test_words_stand_for_gates(words, gates):
    assert chosen_gates(words) == gates


@pytest.mark.parametrize(("words", "says"), [
    (("stride",), "'stride' is not one of auto, all, none, strided, stream, no_sync, cuda_graph, compile. "
                  "Did you mean 'strided'?"),
    (("all", "compile"), "'all' stands alone, not with compile"),
])
def test_other_words_are_wrong(words, says):
    with pytest.raises(ValueError, match=r"stands alone|is not one of") as error:
        GraderSettings(device="cpu", gates=words)
    assert str(error.value) == says


def test_gates_are_a_condition_of_a_kept_result():
    prints = {GraderSettings(device="cpu", gates=gates).fingerprint for gates in [(), ("auto",), ("none",), ("all",)]}
    assert len(prints) == 3


def test_outcomes_are_closed():
    assert {str(outcome) for outcome in GateOutcome} == {"passed", "failed", "not_applicable"}


@pytest.mark.parametrize("op", ["store_kvcache", "rotary_emb"])
def test_the_baseline_passes_where_it_writes_into_its_inputs(op):
    selection = Selection(targets=(op,), models=("qwen3-8b",), tps=(8,), seqlens=(8,))
    scenario, = load_manifest().scenarios(selection)
    settings = GraderSettings(device="cpu", timing=False, self_test=True, gates=("strided", "compile"))
    with KernelGrader(settings) as grader:
        result = grader.grade(scenario)
    assert (result.verdict, outcomes(result)) == (Verdict.PASSED, {"strided": "passed", "compile": "passed"})
