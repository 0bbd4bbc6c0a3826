"""What a machine is spared: scenarios that are left out unless asked for, with the reason."""

import ctypes
from functools import cache
from math import prod
from typing import Any

from fastkernels.bench.kernels.settings import GraderSettings, resolve_device
from fastkernels.manifest import InputSpec, Scenario
from fastkernels.results import LeftOut

CPU_TOKENS = 512
"""Most tokens of a scenario that a CPU run grades without being asked."""

MEMORY_SHARE = 0.8
"""Part of the memory at hand that grading one scenario may take."""

WEIGHT_COPIES = 6
"""Times the weights lie in memory: both modules, the arena, the oracle in twice the width, a copy to compare."""

INPUT_COPIES = 16
"""Times the inputs do: arena, copies before and after, four timing sets a side, the oracle's in twice the width."""

_WEIGHTS = (("input_size", "output_size"), ("num_embeddings", "embedding_dim"),
            ("max_position_embeddings", "rotary_dim"), ("hidden_size", "intermediate_size"))
"""Pairs of init arguments whose product counts the elements of a weight or table."""

_ITEM_BYTES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "bfloat16": 2, "float16": 2, "int16": 2}


def left_out(scenario: Scenario, settings: GraderSettings) -> LeftOut | None:
    """Say why this scenario is not graded on this machine, or return None.

    On a CPU: over 512 tokens. On both: more memory than there is. Token counts in `settings.seqlens` stay.
    """
    if scenario.tokens in settings.seqlens:
        return None
    device = resolve_device(settings.device)
    how = f"ask with --fk-seqlen={scenario.tokens}"
    if device == "cpu" and scenario.tokens > CPU_TOKENS:
        return LeftOut(scenario.id, f"{scenario.tokens} tokens on a CPU (over {CPU_TOKENS}; {how})")
    needed, at_hand = needed_bytes(scenario), int(MEMORY_SHARE * memory_bytes(device))
    if needed > at_hand:
        return LeftOut(scenario.id, f"about {_gib(needed)} needed, {_gib(at_hand)} at hand on {device} ({how})")
    return None


def needed_bytes(scenario: Scenario) -> int:
    """Estimate of the memory that grading takes, from the scenario alone."""
    return WEIGHT_COPIES * weight_bytes(scenario) + INPUT_COPIES * input_bytes(scenario)


def input_bytes(scenario: Scenario) -> int:
    """Bytes of one set of inputs."""
    return sum(_spec_bytes(scenario, spec) for spec in scenario.inputs)


def weight_bytes(scenario: Scenario) -> int:
    """Estimate of the bytes of weights and tables, from pairs of init arguments."""
    init = scenario.init
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
    return prod(scenario.resolved_shape(spec)) * _item_bytes(spec.dtype) if spec.dtype else 0


def _item_bytes(dtype: str) -> int:
    return _ITEM_BYTES.get(dtype, 1)


def _number(init: Any, name: str) -> int:
    value = init.get(name, 0)
    return value if isinstance(value, int) else 0


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
