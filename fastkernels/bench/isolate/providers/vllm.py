"""vLLM's own modules as the baseline, built within a config of its own and on the scenario's weights."""

import tempfile
from pathlib import Path

import torch
from torch import nn
from vllm.config import CompilationConfig, DeviceConfig, VllmConfig, set_current_vllm_config
from vllm.distributed.parallel_state import init_distributed_environment, initialize_model_parallel
from vllm.ir import set_default_torch_wrap

from fastkernels.bench.isolate.providers.catalog import VLLM, why_not
from fastkernels.bench.isolate.providers.stand_in import NoStandInError, StandIn
from fastkernels.bench.isolate.providers.vllm_modules import BUILDERS
from fastkernels.manifest import Scenario

NO_COMPILATION = 0
"""vLLM's CompilationMode.NONE: no Inductor, so that its operators are its kernels."""


class VllmProvider:
    """Builds vLLM's counterpart of a baseline module; the config stays in force for the process."""

    def __init__(self, device: torch.device) -> None:
        """Set vLLM up for one process: every custom op on CUDA, plain PyTorch on a CPU, a group of one rank."""
        self._device = device
        custom_ops = ["all" if device.type == "cuda" else "none"]
        config = VllmConfig(device_config=DeviceConfig(device.type),
                            compilation_config=CompilationConfig(mode=NO_COMPILATION, custom_ops=custom_ops))
        self._in_force = set_current_vllm_config(config)  # kept: a context manager that is collected ends
        self._in_force.__enter__()
        config.kernel_config.ir_op_priority.set_default()
        set_default_torch_wrap(config.compilation_config.ir_enable_torch_wrap)
        with tempfile.TemporaryDirectory(prefix="fastkernels-vllm-") as folder:
            init_distributed_environment(world_size=1, rank=0, local_rank=device.index or 0, backend="gloo",
                                         distributed_init_method=f"file://{Path(folder) / 'ranks'}")
            initialize_model_parallel(1, backend="gloo")

    def stand_in(self, baseline: nn.Module, scenario: Scenario) -> StandIn:
        """vLLM's module or function for this class, on the baseline's weights."""
        reason = why_not(scenario, self._device.type)
        if reason is not None:
            raise NoStandInError(reason)
        default = torch.get_default_dtype()
        try:
            torch.set_default_dtype(dtype_of(baseline, scenario))
            with torch.device(self._device):
                built = BUILDERS[scenario.class_name](baseline)
        except Exception as error:
            raise NoStandInError(f"vLLM's {scenario.class_name} cannot be built for this scenario: "
                                 f"{type(error).__name__}: {error}") from error
        finally:
            torch.set_default_dtype(default)
        return StandIn(built.call, VLLM, pairs(built.module, baseline))


def dtype_of(baseline: nn.Module, scenario: Scenario) -> torch.dtype:
    """The dtype that vLLM would have as torch's default: that of the weights, else of the first float input."""
    held = [t.dtype for t in (*baseline.parameters(), *baseline.buffers()) if t.is_floating_point()]
    named = [getattr(torch, spec.dtype) for spec in scenario.inputs if spec.dtype]
    found: list[torch.dtype] = [dtype for dtype in (*held, *named) if dtype.is_floating_point]
    return found[0] if found else torch.get_default_dtype()


def pairs(module: nn.Module | None, baseline: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(vLLM's parameter, ours) by name; NoStandInError where they are not the same tensors by name, shape and dtype."""
    if module is None:
        return []
    ours = dict(baseline.named_parameters())
    theirs = dict(module.named_parameters())
    described = [{name: (tuple(t.shape), t.dtype) for name, t in side.items()} for side in (theirs, ours)]
    if described[0] != described[1]:
        raise NoStandInError(f"vLLM's module holds other weights: {described[0]}; the baseline's are {described[1]}")
    return [(tensor, ours[name]) for name, tensor in theirs.items()]
