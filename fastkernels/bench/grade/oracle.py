"""The oracle: the baseline's plain PyTorch path on the same values in higher precision."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade.parts import by_parts, can_go_by_parts
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.op import Op

HALF = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
"""Dtypes whose oracle is float32; that of wider ones is float64."""


PARTS_BYTES = 1 << 29
"""A model of more weights than this is brought to higher precision part by part: a copy of it all takes twice as much
memory as the model."""


class Oracle:
    """A copy of a module in float32 (half precision inputs or weights) or float64 (float32), on its native path."""

    def __init__(self, module: nn.Module, inputs: Mapping[str, Any], parts_bytes: int = PARTS_BYTES) -> None:
        """`inputs` are those of any call: their dtypes choose the precision."""
        self.dtype = oracle_dtype(module, inputs)
        if can_go_by_parts(module, parts_bytes):
            self._module = native(by_parts(module, self.dtype))
        else:
            self._module = native(copy.deepcopy(module)).to(self.dtype)

    def __call__(self, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return outputs and the inputs after the call; `inputs` themselves stay as they are."""
        own = {name: self._own(value) for name, value in inputs.items()}
        with torch.inference_mode(), full_precision():
            return invoke(self._module, own), own

    def errors(self, inputs: Mapping[str, Any], unit: float) -> tuple[Any, Any]:
        """What the operator says of its own roundings and constants; None for what it says nothing of."""
        module, kinds = self._module, ("rounding_error", "constant_error")
        if not isinstance(module, Op) or all(getattr(type(module), kind) is getattr(Op, kind) for kind in kinds):
            return None, None
        with torch.inference_mode(), full_precision():
            wide = self.upcast(inputs)
            return module.rounding_error(wide, unit), module.constant_error(wide, unit)

    def follow(self, module: nn.Module, columns: Mapping[str, tuple[int, int]]) -> None:
        """Take over these columns (last dimension) of a module's parameters; what goes by parts has them already."""
        own, given = self._module.state_dict(), module.state_dict()
        with torch.no_grad():
            for name, (start, end) in columns.items():
                if own[name].data_ptr() != given[name].data_ptr():
                    own[name][..., start:end].copy_(given[name][..., start:end])

    def upcast(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Copies of the inputs in the oracle's precision."""
        return {name: self._own(value) for name, value in inputs.items()}

    def _own(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self.dtype, copy=True) if value.is_floating_point() else value.clone()


def oracle_dtype(module: nn.Module, inputs: Mapping[str, Any]) -> torch.dtype:
    """float32 where any float input, weight or buffer is of half precision or none is a float; else float64."""
    found = [*inputs.values(), *module.parameters(), *module.buffers()]
    floats = [t.dtype for t in found if isinstance(t, torch.Tensor) and t.is_floating_point()]
    return torch.float64 if floats and not any(dtype in HALF for dtype in floats) else torch.float32


def native(module: nn.Module) -> nn.Module:
    """Have every operator in the module take its native path; returns the module."""
    for part in module.modules():
        if isinstance(part, Op):
            part.native_only = True
    return module


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 in float32 products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
