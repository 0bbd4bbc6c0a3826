"""What a machine is spared: scenarios that are left out unless asked for, with the reason."""

import ctypes
from functools import cache
from typing import Any

from fastkernels.bench.isolate.providers import VLLM, why_not
from fastkernels.bench.kernels.settings import GraderSettings, resolve_device, too_few_gpus
from fastkernels.manifest import InputSpec, Scenario
from fastkernels.manifest.model_checks import LEVEL as MODEL_LEVEL
from fastkernels.results import LeftOut

CPU_TOKENS = 512
"""Most tokens of a scenario that a CPU run grades without being asked."""

CPU_FLOPS = 2e11
"""Most operations of one call above level 1 that a CPU run grades without being asked: some seconds, and it makes about
thirty such calls, half of them in float32."""

CPU_WEIGHTS = 3e8
"""Most weights of a rank's share of a block or of experts: minutes in those thirty calls, whatever the tokens."""

MEMORY_SHARE = 0.8
"""Part of the memory at hand that grading one scenario may take."""

WEIGHT_COPIES = 6
"""Times the weights lie in memory: both modules, the arena, the oracle in twice the width, a copy to compare."""

MODEL_COPIES = 4
"""The same of a whole model of more than MODEL_BYTES, whose oracle goes by parts (`grade.parts`)."""

MODEL_BYTES = 1 << 29

INPUT_COPIES = 16
"""Times the inputs do: arena, copies before and after, four timing sets a side, the oracle's in twice the width."""

_WEIGHTS = (("input_size", "output_size"), ("num_embeddings", "embedding_dim"),
            ("max_position_embeddings", "rotary_dim"), ("hidden_size", "intermediate_size"))
"""Pairs of init arguments whose product counts the elements of a weight or table."""

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_CHOSEN = ("top_k", "num_experts_per_tok")
"""Init arguments, or keys of a model's config, that count experts and those that each token uses."""

_ITEM_BYTES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "bfloat16": 2, "float16": 2, "int16": 2}


def left_out(scenario: Scenario, settings: GraderSettings) -> LeftOut | None:
    """Say why this scenario is not graded on this machine, or return None.

    On a CPU: over 512 tokens, and above level 1 too many operations. On both: more memory than there is. Token counts
    in `settings.seqlens` stay. Whatever is asked for: with vLLM as the baseline what it has no counterpart for, and
    several ranks where there are fewer GPUs or the sandbox has to be whole.
    """
    device = resolve_device(settings.device)
    lacking = why_not(scenario, device) if settings.baseline == VLLM else None
    if lacking:
        return LeftOut(scenario.id, f"no baseline in vLLM: {lacking}")
    lacking = _too_little_for(scenario.ranks, device, settings) if scenario.ranks > 1 else ""
    if lacking:
        return LeftOut(scenario.id, lacking)
    if scenario.tokens in settings.seqlens:
        return None
    how = f"ask with --fk-seqlen={scenario.tokens}"
    if device == "cpu" and scenario.tokens > CPU_TOKENS:
        return LeftOut(scenario.id, f"{scenario.tokens} tokens on a CPU (over {CPU_TOKENS}; {how})")
    too_slow = _too_slow_on_cpu(scenario) if device == "cpu" and scenario.parameters else ""
    if too_slow:
        return LeftOut(scenario.id, f"{too_slow}; {how})")
    needed, at_hand = needed_bytes(scenario), int(MEMORY_SHARE * memory_bytes(device))
    if needed > at_hand:
        return LeftOut(scenario.id, f"about {_gib(needed)} needed, {_gib(at_hand)} at hand on {device} ({how})")
    return None


def _too_little_for(ranks: int, device: str, settings: GraderSettings) -> str:
    """Why several ranks cannot be graded here, or ''."""
    if settings.sandbox == "require":
        return f"{ranks} ranks at once: not under --fk-sandbox=require: ranks need a network"
    return too_few_gpus(ranks, device)


def _too_slow_on_cpu(scenario: Scenario) -> str:
    """What a CPU would take minutes for, up to the closing bracket, or ''."""
    flops = call_flops(scenario)
    if flops > CPU_FLOPS:
        return f"about {flops:.0e} operations a call on a CPU (over {CPU_FLOPS:.0e}"
    weights = local_parameters(scenario)
    return f"{weights:.0e} weights on a CPU (over {CPU_WEIGHTS:.0e}" if weights > CPU_WEIGHTS else ""


def needed_bytes(scenario: Scenario) -> int:
    """Estimate of the memory that grading takes, from the scenario alone."""
    weights = weight_bytes(scenario)
    copies = MODEL_COPIES if scenario.level == MODEL_LEVEL and weights > MODEL_BYTES else WEIGHT_COPIES
    return copies * weights + INPUT_COPIES * input_bytes(scenario)


def input_bytes(scenario: Scenario) -> int:
    """Bytes of one set of inputs."""
    return sum(_spec_bytes(scenario, spec) for spec in scenario.inputs)


def call_flops(scenario: Scenario) -> float:
    """Estimate of the operations of one call above level 1: a multiply-add for each token and weight; else 0.

    Lookups have none; of experts each token uses the chosen ones' alone, which is taken for the share of all weights.
    """
    if scenario.level == 1:
        return 0.0
    rows = max((scenario.resolved_shape(spec)[0] for spec in scenario.inputs if _has_a_row_a_token(spec)), default=0)
    where = (scenario.init, scenario.init.get("config", {}))
    experts = max(_number(init, name) for init in where for name in _EXPERTS) or 1
    chosen = max(_number(init, name) for init in where for name in _CHOSEN) or experts
    return 2.0 * rows * local_parameters(scenario) * min(1.0, chosen / experts)


def local_parameters(scenario: Scenario) -> int:
    """Weights on one rank where the manifest counts them; sizes of level 1 are one rank's already."""
    return scenario.parameters // (scenario.tp if scenario.level > 1 else 1)


def weight_bytes(scenario: Scenario) -> int:
    """Estimate of the bytes of weights and tables on one rank, from `parameters` or from pairs of init arguments."""
    init = scenario.init
    if scenario.parameters:
        config = init.get("config", {})
        dtype = str(init.get("dtype") or init.get("params_dtype") or config.get("dtype") or "bfloat16")
        return local_parameters(scenario) * _item_bytes(dtype)
    elements = sum(_number(init, a) * _number(init, b) for a, b in _WEIGHTS)
    return elements * _item_bytes(str(init.get("dtype", "float32")))


@cache
def memory_bytes(device: str) -> int:
    """Memory at hand: what is available on a CPU; the first device's whole memory on CUDA."""
    if device == "cuda":
        return _cuda_bytes()
    import psutil

    return int(psutil.virtual_memory().available)


def _cuda_bytes() -> int:
    driver = ctypes.CDLL("libcuda.so.1")
    handle, size = ctypes.c_int(0), ctypes.c_size_t(0)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(handle), 0)
    status = driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    return size.value if status == 0 else 2**63


def _spec_bytes(scenario: Scenario, spec: InputSpec) -> int:
    return scenario.extent(spec) * _item_bytes(spec.dtype) if spec.dtype else 0


def _has_a_row_a_token(spec: InputSpec) -> bool:
    """Whether an input tells how many rows a call computes: activations, or the positions of a model's tokens."""
    if not spec.shape or spec.name.startswith("context."):
        return False
    return "float" in spec.dtype or spec.name == "positions"


def _item_bytes(dtype: str) -> int:
    return _ITEM_BYTES.get(dtype, 1)


def _number(init: Any, name: str) -> int:
    value = init.get(name, 0)
    return value if isinstance(value, int) else 0


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
