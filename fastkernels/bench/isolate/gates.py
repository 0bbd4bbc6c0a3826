"""The candidate's side of the deployment gates: one call of its module, each in another way; and strided inputs."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from fastkernels.bench.isolate.batch import copied
from fastkernels.bench.isolate.late import other_floats
from fastkernels.bench.isolate.service import private_copy
from fastkernels.results import Gate
from fastkernels.runtime.invoke import invoke

BUSY_CYCLES = 200_000_000
"""Cycles for which the default stream is kept busy: about 0.1 s."""

COMPILE_BACKEND = {"cpu": "aot_eager", "cuda": "inductor"}
"""What compiles the graph. On a CPU only the trace is tried: Inductor needs a C++ compiler and 5 to 20 s there."""

ROW_GAP = 64
"""Gaps between strided rows are multiples of this many elements, as slices at whole heads have them."""


class GateCalls:
    """Calls one module as deployments do; what a call raises passes through. Keeps the captured graph between calls."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._module = module
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: dict[str, Any] = {}
        self._outputs: Any = None

    def capture(self, inputs: Mapping[str, Any]) -> None:
        """Capture a call on a copy of these inputs. NotCapturableError where that is not possible."""
        from fastkernels.bench.timing.capture import capture

        def run() -> None:
            self._outputs = invoke(self._module, self._static)

        self._static = {name: private_copy(value) for name, value in inputs.items()}
        with torch.inference_mode():
            self._graph = capture(self._device, run)

    def call(self, gate: Gate, inputs: dict[str, Any]) -> Any:
        """The outputs of one call on these inputs, which it may change as the module does; finished on the device."""
        with torch.inference_mode():
            outputs = _WAYS[gate](self, inputs)
            self._synchronize()
        return outputs

    def _plainly(self, inputs: dict[str, Any]) -> Any:
        return invoke(self._module, inputs)

    def _compiled(self, inputs: dict[str, Any]) -> Any:
        """On inputs in memory of their own: those in the arena share one storage, which no compiler may write to.

        All sizes are constants of the graph, whatever shapes this process compiled before.
        """
        mine = {name: private_copy(value) for name, value in inputs.items()}
        torch.compiler.reset()
        try:
            compiled = torch.compile(
                self._module, fullgraph=True, dynamic=False, backend=COMPILE_BACKEND[self._device.type])
            outputs = invoke(compiled, mine)
        finally:
            torch.compiler.reset()
        _copy_back(inputs, mine)
        return outputs

    def _on_a_stream(self, inputs: dict[str, Any]) -> Any:
        """Whatever runs on the default stream all the same is not done when the outputs are copied."""
        mine = {name: private_copy(value) for name, value in inputs.items()}
        invoke(self._module, {name: private_copy(value) for name, value in inputs.items()})  # compiles what it must
        self._synchronize()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        torch.cuda._sleep(BUSY_CYCLES)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            outputs = copied(invoke(self._module, mine))
            _copy_back(inputs, mine)
        stream.synchronize()
        return outputs

    def _without_sync(self, inputs: dict[str, Any]) -> Any:
        invoke(self._module, {name: private_copy(value) for name, value in inputs.items()})  # compiles what it must
        self._synchronize()
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return invoke(self._module, inputs)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def _replayed(self, inputs: dict[str, Any]) -> Any:
        """Numbers that are no tensors are part of a graph; where they differ from the captured ones, capture anew."""
        if self._graph is None or _literals(inputs) != _literals(self._static):
            self.capture({name: _other_floats(value) for name, value in inputs.items()})
        assert self._graph is not None
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                self._static[name].copy_(value)
        self._graph.replay()
        _copy_back(inputs, self._static)
        return copied(self._outputs)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


_WAYS = {Gate.STRIDED: GateCalls._plainly, Gate.COMPILE: GateCalls._compiled, Gate.STREAM: GateCalls._on_a_stream,
         Gate.NO_SYNC: GateCalls._without_sync, Gate.CUDA_GRAPH: GateCalls._replayed}


def contiguous_ones(inputs: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """Those named that have no gaps yet: all calls of a scenario whose model passes slices have them."""
    return tuple(name for name in names if isinstance(inputs.get(name), torch.Tensor) and inputs[name].is_contiguous())


def as_slices(inputs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The inputs with those named as slices of wider tensors: unit stride in the last dimension, gaps between rows."""
    return {name: _as_slice(value) if name in names and isinstance(value, torch.Tensor) and value.dim() > 1 else value
            for name, value in inputs.items()}


def has_slices(inputs: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether any of those named is not contiguous; a single row always is."""
    return any(isinstance(inputs.get(name), torch.Tensor) and not inputs[name].is_contiguous() for name in names)


def _as_slice(tensor: torch.Tensor) -> torch.Tensor:
    rows, width = tensor.shape[0], prod(tensor.shape[1:])
    wide = tensor.new_zeros(rows, width + -(-width // ROW_GAP) * ROW_GAP)
    return wide[:, :width].view(tensor.shape).copy_(tensor)


def _copy_back(inputs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            value.copy_(mine[name])


def _literals(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What is no tensor, and the shapes of what is one."""
    return {name: tuple(value.shape) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def _other_floats(value: Any) -> Any:
    """Other floats in the same shape and strides; integers stay, so that they remain legal."""
    return other_floats(value) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
