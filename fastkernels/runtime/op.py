"""Base class of the baseline operators: one native path that is the oracle, one production path for CUDA."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class Work:
    """The least that a call must do, for the roofline."""

    bytes: int
    """Bytes read and written at least once."""
    flops: int
    """Floating-point operations; a multiply-add counts two."""


def tensor_bytes(*tensors: torch.Tensor | None) -> int:
    """Bytes of these tensors' elements; None counts nothing."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


class Op(nn.Module):
    """An operator with `forward_native` (any device, any float dtype: the oracle) and `forward_cuda` (production).

    `forward` takes `forward_cuda` for CUDA tensors and `forward_native` otherwise, as vLLM's CustomOp does.
    """

    provider: ClassVar[str] = "native"
    """What `forward_cuda` is made of: `triton`, `torch` (cuBLAS, ATen) or `cudnn`."""

    rounds_often: ClassVar[bool] = False
    """Whether honest ones round several times, each in its order: judged beside the baseline's error, as blocks."""

    native_only: bool = False
    """Set on an instance: `forward_native` on every device. Classes that wrap an operator's `forward` honour it too."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Dispatch on the device of the first tensor argument."""
        first = next(a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor))
        if first.is_cuda and not self.native_only:
            return self.forward_cuda(*args, **kwargs)
        return self.forward_native(*args, **kwargs)

    def forward_native(self, *args: Any, **kwargs: Any) -> Any:
        """Plain PyTorch; computes in the dtype of its inputs, or in float32 where they are of half precision."""
        raise NotImplementedError

    def forward_cuda(self, *args: Any, **kwargs: Any) -> Any:
        """The production path on CUDA."""
        return self.forward_native(*args, **kwargs)

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of inputs that an implementation may overwrite or return, since no caller reads them afterwards."""
        del inputs
        return ()

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of inputs that some model passes with gaps between their rows, such as slices of a fused projection."""
        del inputs
        return ()

    def rounding_error(self, inputs: Mapping[str, Any], unit: float) -> Any:
        """How far honest outputs may be off where terms cancel, beside what their own size allows; None: nowhere.

        A tree like the outputs: for each element the largest error of an implementation that rounds its terms to a
        dtype with this unit roundoff before it adds them up. Such errors are independent of each other, so that rows
        and tensors as wholes get no more room. The judge asks the oracle's copy, with inputs in its precision.
        """
        del inputs, unit
        return None

    def constant_error(self, inputs: Mapping[str, Any], unit: float) -> Any:
        """The same for constants that honest implementations have otherwise, such as a table of cosines.

        Their errors are shared by many elements: rows and tensors as wholes may be off by as much too.
        """
        del inputs, unit
        return None

    def canonical(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """One form for all outputs that are equally right, such as any order among ties; by default as they are.

        A tree of tensors; outputs and inputs stay as they are. Whatever is no legal answer must keep differing.
        """
        del inputs
        return outputs

    def provider_on(self, device: torch.device) -> str:
        """Name of what computes on this device."""
        return self.provider if device.type == "cuda" else "native"

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Least bytes and operations of this call; by default every input, output and weight moves once."""
        tensors = [t for t in inputs.values() if isinstance(t, torch.Tensor)]
        return Work(bytes=tensor_bytes(*tensors, *outputs, *self.parameters()), flops=0)
