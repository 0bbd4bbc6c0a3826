"""vLLM as the timed baseline: a stand-in of that name shows what the trusted worker asks of it and makes of it."""

import importlib
import os
import re
from dataclasses import replace

import pytest
import torch
from blocks_by_hand import block
from results_by_hand import rms_norm, silu_and_mul
from torch import nn

from fastkernels.bench.isolate.providers import BASELINES, vllm_missing, why_not
from fastkernels.bench.isolate.providers.catalog import ANYWHERE, LACKING, ON_CUDA
from fastkernels.bench.isolate.providers.own import OwnProvider
from fastkernels.bench.isolate.providers.stand_in import StandIn, open_provider
from fastkernels.bench.kernels import GraderSettings, KernelGrader, timed
from fastkernels.errors import DeviceError, install_command
from fastkernels.manifest import InputSpec
from fastkernels.registry import baseline_root, discover
from fastkernels.results import Verdict
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm

SLEEP_S = 0.003
"""What a call of the stand-in's norm takes at least, however fast or busy the machine is."""
CALLS = "calls-of-the-norm"
"""The file that grows by a byte with each of them."""
PACKAGE = {
    "config.py": """
from contextlib import contextmanager
from types import SimpleNamespace
in_force = []
class DeviceConfig:
    def __init__(self, device):
        assert device == "cpu"
class CompilationConfig:
    ir_enable_torch_wrap = False
    def __init__(self, mode, custom_ops):
        assert (mode, custom_ops) == (0, ["none"])
class VllmConfig:
    def __init__(self, device_config, compilation_config):
        self.compilation_config = compilation_config
        self.kernel_config = SimpleNamespace(ir_op_priority=SimpleNamespace(set_default=lambda: in_force.append("ir")))
@contextmanager
def set_current_vllm_config(config):
    in_force.append("config")
    yield
    in_force.clear()
""",
    "ir.py": "def set_default_torch_wrap(enable):\n    assert enable is False\n",
    "distributed/parallel_state.py": """
from vllm.config import in_force
def init_distributed_environment(world_size, rank, local_rank, backend, distributed_init_method):
    assert (world_size, rank, distributed_init_method[:8]) == (1, 0, "file:///")
    in_force.append("group")
def initialize_model_parallel(size, backend):
    assert size == 1
""",
    "model_executor/layers/layernorm.py": """
import os
import time
import torch
import vllm
from torch import nn
from vllm.config import in_force
CALLS = os.path.join(os.path.dirname(vllm.__file__), "CALLS_FILE")
class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps, dtype):
        super().__init__()
        assert in_force == ["config", "ir", "group"]
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
    def forward(self, x, residual=None):
        with open(CALLS, "ab") as calls:
            calls.write(b".")
        time.sleep(SLEEP_S)
        wide = x.float() if residual is None else x.float() + residual.float()
        y = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        if residual is None:
            return y.to(x.dtype)
        residual.copy_(wide)
        return x.copy_(y), residual
""".replace("SLEEP_S", str(SLEEP_S)).replace("CALLS_FILE", CALLS),
    "model_executor/layers/activation.py": """
import torch
from torch import nn
class SiluAndMul(nn.Module):
    def forward(self, x):
        gate, up = x.float().chunk(2, dim=-1)
        return (nn.functional.silu(gate) * up).to(x.dtype)
""",
    "model_executor/layers/linear.py": """
import torch
from torch import nn
class RowParallelLinear(nn.Module):
    def __init__(self, input_size, output_size, bias, params_dtype, return_bias, disable_tp):
        super().__init__()
        assert disable_tp and return_bias and not bias
        self.weight = nn.Parameter(torch.empty(output_size, input_size, dtype=params_dtype))
    def forward(self, x):
        return nn.functional.linear(x, self.weight), None
""",
}
SETTINGS = {"device": "cpu", "baseline": "vllm", "seed": 3, "max_time_s": 0.2, "num_runs": 10, "self_test": True}


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """Write a package named vllm and have this process and its workers find it; `vllm(file=(old, new))` changes it."""
    def write(**changes):
        for name, text in PACKAGE.items():
            old, new = changes.get(name.rsplit("/", 1)[-1].removesuffix(".py"), ("", ""))
            assert old in text
            path = tmp_path / "vllm" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in [parent for parent in path.parents if parent.is_relative_to(tmp_path / "vllm")]:
                (folder / "__init__.py").touch()
            path.write_text(text.replace(old, new) if old else text)

    write()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    return write


def grade(*scenarios, **changes):
    with KernelGrader(GraderSettings(**{**SETTINGS, **changes})) as grader:
        return [grader.grade(scenario) for scenario in scenarios]


def test_vllms_module_is_what_is_timed_and_has_the_scenarios_weights(
    vllm, tmp_path, monkeypatch, clocks_agree
):  # fmt: skip
    """Its calls are counted: how long those of the candidate take depends on what else the machine does."""
    counted, compare = [], timed.compare

    def calls_in(work):
        before = calls.stat().st_size
        work()
        return calls.stat().st_size - before

    def counting(baseline, candidate, plan):
        counted.append([calls_in(lambda lane=lane: lane.eager(5)) for lane in (baseline, candidate)])
        return compare(baseline, candidate, plan)

    calls = tmp_path / "vllm" / CALLS
    monkeypatch.setattr(timed, "compare", counting)
    for result in grade(rms_norm(), rms_norm(residual=True)):
        assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
        assert result.baseline_provider == "vllm"
        assert min(result.timing.baseline_samples_s) >= SLEEP_S
    assert counted == [[5, 0], [5, 0]]


@pytest.mark.parametrize("tp", [1, 2])
def test_sums_over_ranks_are_the_groups(vllm, tp):
    x = InputSpec("x", "normal", ("tokens", 96 // tp), "bfloat16")
    init = {"input_size": 96, "output_size": 64, "bias": False, "params_dtype": "bfloat16"}
    (result,) = grade(block("parallel_linear", "RowParallelLinear", init, [x], tp=tp))
    assert result.verdict is Verdict.PASSED, result.message
    assert result.baseline_provider == "vllm"


@pytest.mark.parametrize(("change", "message"), [
    ({"layernorm": ("self.weight.float()", "1.0")}, "the baseline of vllm is wrong itself: wrong_values: "),
    ({"layernorm": ("return y.to(x.dtype)", "return y")}, "the baseline of vllm is wrong itself: wrong_dtype: "),
    ({"layernorm": ("time.sleep", "1 / 0 #")}, "the baseline of vllm failed: ZeroDivisionError: division by zero"),
    ({"layernorm": ("self.eps = eps", "raise RuntimeError('too new')")},
     "vLLM's RMSNorm cannot be built for this scenario: RuntimeError: too new"),
    ({"layernorm": ("torch.ones(hidden_size,", "torch.ones(2 * hidden_size,")},
     "vLLM's module holds other weights: {'weight': ((64,), torch.bfloat16)}; the baseline's are {'weight': ((32,),"),
])  # fmt: skip
def test_a_vllm_that_is_no_measure_is_no_fault_of_the_candidates(vllm, change, message):
    vllm(**change)
    (result,) = grade(rms_norm(), timing=False)
    assert result.verdict is Verdict.TASK_INVALID
    assert result.message.startswith(message)


def test_a_vllm_that_writes_where_it_may_not_is_no_measure(vllm):
    vllm(activation=("return (", "x.zero_()\n        return ("))
    (result,) = grade(silu_and_mul(), timing=False)
    assert result.verdict is Verdict.TASK_INVALID
    assert "wrong itself: mutated_input: input x was changed" in result.message


def test_what_vllm_lacks_is_left_out_with_the_reason_even_if_its_size_is_asked_for(vllm):
    grader = KernelGrader(GraderSettings(**SETTINGS, seqlens=(4,)))
    lacking = replace(rms_norm(), class_name="MoeGroupedGemm", op="moe_grouped_gemm")
    assert grader.left_out(lacking).reason.startswith("no baseline in vLLM: vLLM multiplies within fused_experts")
    assert grader.left_out(rms_norm()) is None
    assert KernelGrader(GraderSettings(**{**SETTINGS, "baseline": "auto"})).left_out(lacking) is None
    (result,) = grade(lacking, timing=False)  # asked for by address; its class is not in rms_norm.py either
    assert result.verdict is not Verdict.PASSED


@pytest.mark.parametrize(("name", "device", "tp", "reason"), [
    ("RMSNorm", "cpu", 8, None),
    ("FlashAttnDecode", "cuda", 8, None),
    ("FlashAttnDecode", "cpu", 8, "vLLM's kernel for FlashAttnDecode runs on CUDA only"),
    ("VocabParallelEmbedding", "cuda", 2, "needs a group of 2 processes; grade it at TP 1"),
    ("AllReduce", "cuda", 1, "one rank alone has nothing to reduce"),
    ("LlamaDecoderLayer", "cuda", 1, "vLLM's LlamaDecoderLayer reads its engine's forward context"),
])
def test_reasons(name, device, tp, reason):
    found = why_not(replace(rms_norm(), class_name=name, tp=tp), device)
    assert found is None if reason is None else reason in found


def test_groups_need_a_bias():
    grouped = replace(rms_norm(), class_name="GroupedTopk")
    biased = replace(grouped, inputs=(replace(grouped.inputs[0], name="e_score_correction_bias"),))
    assert "in any order" in why_not(grouped, "cuda")
    assert why_not(biased, "cuda") is None


def test_only_plain_experts_have_a_counterpart():
    moe = replace(rms_norm(), class_name="FusedMoE")
    assert why_not(moe, "cuda") is None
    for init in ({"has_bias": True}, {"use_grouped_topk": True}, {"activation": "swigluoai"}):
        assert "set up for softmax routing" in why_not(replace(moe, init=init), "cuda")


def test_every_name_of_the_catalog_has_a_builder_and_is_a_class_of_the_task_tree():
    builders = importlib.import_module("fastkernels.bench.isolate.providers.vllm_modules").BUILDERS
    assert set(builders) == ANYWHERE | ON_CUDA
    assert not (ANYWHERE | ON_CUDA) & set(LACKING)
    known = {name for operator in discover(baseline_root()).values() for name in operator.classes}
    assert set(builders) | set(LACKING) <= known


def test_a_stand_in_follows_the_baselines_weights_to_other_memory():
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))
    stand_in = StandIn(lambda: theirs.sum(), "vllm", [(theirs, ours)])
    assert stand_in.current()() == 3
    ours.data = torch.full((3,), 2.0)
    assert stand_in.current()() == 6
    assert theirs.data_ptr() == ours.data_ptr()


def test_the_projects_own_baseline_is_itself():
    module = RMSNorm(4)
    found = OwnProvider(torch.device("cuda"), native=False).stand_in(module, rms_norm())
    assert (found.current(), found.provider, found.is_baseline) == (module, "triton", True)
    native = open_provider("native", torch.device("cuda")).stand_in(module, rms_norm())
    assert (native.provider, module.native_only) == ("native", True)


def test_without_vllm_the_choice_is_an_error_with_the_command():
    assert vllm_missing() is not None
    with pytest.raises(DeviceError, match=re.escape(f"vllm is not installed: {install_command('vllm')}")):
        GraderSettings(baseline="vllm")
    with pytest.raises(ValueError, match="baseline: 'vlm' is not one of auto, native, vllm"):
        GraderSettings(baseline="vlm")
    assert BASELINES == ("auto", "native", "vllm")
