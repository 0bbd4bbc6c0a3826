"""Triton where it is installed; elsewhere stand-ins, so that task files import on every platform and fail at launch.

Task files write `from fastkernels.runtime.jit import tl, triton`. Triton is published for Linux only. Gluon, its
dialect with layouts, tensor maps and warp specialisation in the open, comes as `gluon`, `gl` (its language), `hopper`
(instructions of compute capability 9) and `TensorDescriptor`, which is None where this Triton lacks any of them.
`TileDescriptor` is Triton's own tensor map for `tl` kernels, or None.
"""

from typing import Any, NoReturn

from fastkernels.errors import DeviceError

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    triton = tl = None


class MissingKernel:
    """Takes a kernel's place where Triton is missing."""

    def __init__(self, function: Any) -> None:
        self.name = getattr(function, "__name__", "kernel")

    def __getitem__(self, grid: Any) -> NoReturn:
        raise DeviceError(f"{self.name}: Triton is not installed, so CUDA tensors need another provider than 'triton'")


class Placeholder:
    """Takes the place of a type or constant of Triton, such as `tl.constexpr` and `tl.constexpr(0.5)`."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class MissingTriton:
    """Takes the place of `triton` and `triton.language`: decorates kernels, answers annotations and constants."""

    @staticmethod
    def jit(function: Any = None, **options: Any) -> Any:
        """Stand-in of `triton.jit`, bare or with options."""
        del options
        return MissingTriton.jit if function is None else MissingKernel(function)

    def __getattr__(self, name: str) -> Any:
        return Placeholder


if triton is None:
    triton = tl = MissingTriton()

try:
    from triton.tools.tensor_descriptor import TensorDescriptor as TileDescriptor
except ImportError:
    TileDescriptor = None

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia import hopper
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
except ImportError:
    gluon = gl = hopper = MissingTriton()
    TensorDescriptor = None
